"""What a trial learns from: three Parquet files, and the test rows written for those who come after.

Owns: finding the files (a folder, or gs://), checking their columns before a JVM starts, `test.csv` and the example
rows. Deliberately not: making features or splitting rows (`spark-features` does), and H2O, which reads the same files
by itself.
"""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from errors import InputError, TrainingError

PARTS = ("train", "validation", "test")
EXAMPLES = 200


@dataclass(frozen=True)
class Features:
    """The checked parts: where each file is, the rows of the test part, and the target's two labels in order."""

    files: dict[str, Path]
    test: pa.Table
    target: str
    labels: tuple[str, str]
    rows: dict[str, int]

    @property
    def columns(self) -> list[str]:
        """The inputs' names, in the files' order."""
        return [name for name in self.test.column_names if name != self.target]

    def write_test(self, path: Path) -> None:
        """Write the test rows as CSV, in the file's order: what programs without a Parquet reader are evaluated on."""
        pyarrow.csv.write_csv(self.test, path, pyarrow.csv.WriteOptions(quoting_style="needed"))

    def examples(self) -> tuple[list[int], list[dict[str, Any]]]:
        """Pick test rows, evenly spaced over the sorted file: their positions, and their raw inputs."""
        count = self.test.num_rows
        picked = sorted({i * count // EXAMPLES for i in range(EXAMPLES)})
        return picked, self.test.select(self.columns).take(picked).to_pylist()


def read(uri: str, target: str, scratch: Path) -> Features:
    """Find the three parts under a folder or a gs:// URI (then downloaded to `scratch`) and check them.

    Raises:
      InputError: A part is missing or is no Parquet file, columns differ between parts, or labels are not two.
      TrainingError: The bucket did not answer.
    """
    folder = _download(uri, scratch) if uri.startswith("gs://") else _local(uri)
    files = {part: folder / f"{part}.parquet" for part in PARTS}
    tables = {part: _table(path, uri) for part, path in files.items()}
    first = tables["train"].schema
    for part, table in tables.items():
        if not table.schema.equals(first):
            differing = sorted(set(table.schema.names) ^ set(first.names)) or ["types"]
            raise InputError(
                f"{uri}: {part}.parquet and train.parquet differ in {', '.join(differing)}; run the features step again"
            )
        if not table.num_rows:
            raise InputError(f"{uri}: {part}.parquet has no rows; nothing can be trained or judged on it")
    if target not in first.names:
        raise InputError(f"{uri}: train.parquet has no column {target!r}; name the column to predict with --target")
    if len(first.names) == 1:
        raise InputError(
            f"{uri}: train.parquet has no column but the target {target!r}; there is nothing to learn from"
        )
    labels = {
        part: sorted(pc.unique(table[target].drop_null()).cast(pa.string()).to_pylist())
        for part, table in tables.items()
    }
    for part, found in labels.items():
        if tables[part][target].null_count:
            raise InputError(f"{uri}: {part}.parquet has rows without a {target}; the features step must drop them")
        if len(found) != 2:
            raise InputError(f"{uri}: {target} of {part}.parquet has the labels {found}; two are needed, in each part")
        if found != labels["train"]:
            raise InputError(
                f"{uri}: {target} has the labels {found} in {part}.parquet, {labels['train']} in train.parquet"
            )
    rows = {part: table.num_rows for part, table in tables.items()}
    return Features(files, tables["test"], target, (labels["train"][0], labels["train"][1]), rows)


def _local(uri: str) -> Path:
    path = Path(uri.removeprefix("file://"))
    if "://" in uri and not uri.startswith("file:///"):
        raise InputError(f"{uri}: features are read from a folder, file:/// or gs://")
    if not path.is_dir():
        raise InputError(f"{uri}: no such folder; it must hold {', '.join(f'{part}.parquet' for part in PARTS)}")
    return path


def _table(path: Path, uri: str) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise InputError(
            f"{uri}: no {path.name}; it must hold {', '.join(f'{part}.parquet' for part in PARTS)}"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{uri}: {path.name} is no Parquet file ({str(error).splitlines()[0]})") from None


def _download(uri: str, scratch: Path) -> Path:
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage
    from requests.exceptions import RequestException

    bucket_name, _, prefix = uri.removeprefix("gs://").partition("/")
    folder = scratch / "features"
    folder.mkdir()
    missing = "bucket"
    try:
        bucket = storage.Client().bucket(bucket_name)
        for part in PARTS:
            missing = f"{part}.parquet"
            name = f"{prefix.rstrip('/')}/{missing}".lstrip("/")
            bucket.blob(name).download_to_filename(str(folder / missing), checksum="crc32c")
    except NotFound:
        raise InputError(f"{uri}: no {missing} there; run the features step first") from None
    except (GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
        raise TrainingError(f"{uri}: cannot be read ({str(error).splitlines()[0]}); nothing was trained") from None
    return folder
