"""Raw objects as CSV text."""

import csv
import io


def to_csv(header, records):
    """Give CSV text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(records)
    return out.getvalue()
