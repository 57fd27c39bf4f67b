"""Set-up: an archive of the classes that the image's programs load, which Java then maps instead of loading them.

Owns: a run of both programs on rows made up, after which Java writes the archive to `target/classes.jsa`. Deliberately
not: its use, which is `conf/spark-env.sh`'s business; Java takes no archive that another Java or other jars made.
"""

import csv
import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

IMAGE = Path(__file__).parent.parent
ARCHIVE = IMAGE / "target" / "classes.jsa"
ROWS = 600


class _Empty(http.server.BaseHTTPRequestHandler):
    """A bucket with nothing in it, for the classes that a bucket takes."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as http.server calls it
        pass


def main() -> int:
    """Make the archive; give the exit code."""
    with tempfile.TemporaryDirectory(dir=IMAGE / "target") as folder:
        archive = Path(folder) / ARCHIVE.name
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SPARK_CONF_DIR": str(IMAGE / "conf"),
            "SPARK_DIST_CLASSPATH": f"{IMAGE}/target/jars/*",
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_CLASSES": f"-XX:ArchiveClassesAtExit={archive} -Xlog:disable -Xlog:all=error:stderr",
        }
        command = ["spark-submit", "--master", "local[*]", __file__, folder]
        done = subprocess.run(command, cwd=IMAGE, env=environment, capture_output=True, text=True, check=False)
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        if done.returncode:
            print(f"spark-features: Spark does not run here: {said[-1]}", file=sys.stderr)
            return 1
        if archive.exists():
            archive.replace(ARCHIVE)
        else:
            print(f"spark-features: Java made no archive, so Spark will start some seconds slower: {said[-1]}")
    return 0


def run(folder: Path) -> None:
    """Run both programs in one Spark."""
    import gbt
    import transform
    from job import start

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["STORAGE_EMULATOR_HOST"] = f"127.0.0.1:{server.server_port}"
    start("classes")[1].is_file("gs://none/none")
    schema = json.loads((IMAGE / "src" / "schema.json").read_text())
    draw = random.Random(1)  # noqa: S311
    for name, kind, own in (("areas", "area", ["Id"]), ("customers", "customer", ["Id", "Area"])):
        attributes = [one["name"] for one in schema["attributes"] if one["object"] == kind]
        target = [schema["target"]["name"]] if kind == "customer" else []
        with (folder / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([*own, *attributes, *target])
            for number in range(ROWS):
                values = [draw.randrange(10) for _ in attributes]
                labels = [schema["target"]["positive" if values[0] > 5 else "negative"]] if target else []
                rows.writerow([*(number for _ in own), *values, *labels])
    for program, arguments in (
        (transform, ["--areas", folder / "areas.csv", "--customers", folder / "customers.csv"]),
        (gbt, ["--features", folder / "features", "--max-iter", "2", "--seed", "1"]),
    ):
        output = folder / ("features" if program is transform else "baseline")
        sys.argv = [program.NAME, *map(str, arguments), "--output", str(output)]
        program.main()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]))
    else:
        sys.exit(main())
