"""Set-up: fetches the GCS connector that `pom.xml` names into `target/jars`, and checks its bytes.

Owns: the connector's sha256. Deliberately not: putting it on Spark's classpath, which `SPARK_DIST_CLASSPATH` in the
Dockerfile does.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGE = Path(__file__).parent.parent
JARS = IMAGE / "target" / "jars"
CONNECTOR = "gcs-connector-4.0.4-shaded.jar"
# By its whole name: of a plugin that cannot be fetched Maven would say only that no prefix is called `dependency`.
GOAL = "org.apache.maven.plugins:maven-dependency-plugin:copy"
SHA256 = "dfb5832738686436e597026a8e4bab01aa22e75ebfb15d37d096981f6599d73c"


def main() -> int:
    """Fetch what is missing; give the exit code."""
    if _digest(JARS / CONNECTOR) == SHA256:
        return 0
    if shutil.which("mvn") is None:
        print("spark-features: no `mvn` on PATH to fetch the GCS connector with; install maven", file=sys.stderr)
        return 1
    JARS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=JARS.parent) as folder:
        options = (f"-Dmaven.repo.local={folder}/m2", f"-DoutputDirectory={folder}")
        done = subprocess.run(
            ["mvn", "-B", "-ntp", "-q", "-Dstyle.color=never", GOAL, *options],
            cwd=IMAGE,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = (line.removeprefix("[ERROR]").strip() for line in (done.stdout + done.stderr).splitlines())
            said = next(filter(None, lines), "it said nothing").removesuffix(" -> [Help 1]")
            print(f"spark-features: Maven could not fetch the GCS connector: {said}", file=sys.stderr)
            return 1
        found = _digest(Path(folder) / CONNECTOR)
        if found != SHA256:
            print(f"spark-features: {CONNECTOR} has sha256 {found}, not {SHA256}; it was not kept", file=sys.stderr)
            return 1
        (Path(folder) / CONNECTOR).replace(JARS / CONNECTOR)
    return 0


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
