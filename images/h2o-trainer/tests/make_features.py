"""Writes feature folders of the real data, good and bad; runs in the image's environment, which can write Parquet."""

# pyright: reportMissingImports=false
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

data, root = Path(sys.argv[1]), Path(sys.argv[2])
table = pyarrow.csv.read_csv(data).select(["MOSTYPE", "MKOOPKLA", "PPERSAUT", "PBRAND", "APERSAUT", "Purchase"])
# A text column, so that categories go all the way too.
codes = pc.binary_join_element_wise("class", table["MKOOPKLA"].cast(pa.string()), " ")
table = table.set_column(1, "MKOOPKLA", codes)
thirds = [("train", 0, 4000), ("validation", 4000, 900), ("test", 4900, 922)]


def write(name, **changed):
    """Write one folder; `changed` parts are other tables, or None for no file."""
    folder = root / name
    folder.mkdir()
    for part, start, rows in thirds:
        content = changed.get(part, table.slice(start, rows).sort_by([(c, "ascending") for c in table.column_names]))
        if content is not None:
            pq.write_table(content, folder / f"{part}.parquet")
    return folder


test = table.slice(4900)
write("good")
write("no-test", test=None)
(write("text") / "validation.parquet").write_text("no Parquet")
write("other-columns", validation=table.slice(4000, 900).drop_columns(["PBRAND"]))
write("empty", validation=table.slice(0, 0))
write("one-label", test=test.filter(pc.equal(test["Purchase"], "No")))
labels = test["Purchase"].to_pylist()
write("no-label", test=test.set_column(5, "Purchase", pa.array([None, *labels[1:]])))
(root / "nothing").mkdir()
