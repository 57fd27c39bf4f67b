"""The files that a boot script puts on a machine, in a folder of a test's own."""

import re
import subprocess
from pathlib import Path

_FILE = re.compile(r"^cat >/usr/local/lib/mlops/(\S+) <<'END_OF_FILE'\n(.*?)^END_OF_FILE$", re.MULTILINE | re.DOTALL)


def unpack(script: str, folder: Path) -> Path:
    """Write the script as startup.sh, and beside it every file that it writes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "startup.sh").write_text(script)
    for name, text in _FILE.findall(script):
        (folder / name).write_text(text)
    return folder


def bash(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run lines of bash there, as the machine's own programs are run: the first failure ends them."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{text}"], cwd=folder, capture_output=True, text=True, timeout=300
    )
