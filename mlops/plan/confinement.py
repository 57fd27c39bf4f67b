"""Confinement: a command that sees no network, and of the file system the system's programs and what it is given.

Owns how a program that nobody has reviewed yet is run: in namespaces of its own (util-linux's `unshare`, which needs no
root where the kernel allows user namespaces), with everything it sees read-only and no capability left. It deliberately
is no promise: where the kernel refuses, `problem` says so, and in continuous integration the guarantee is a job without
secrets.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

# In the namespaces: a root of its own at $HOME (an empty folder), in which only the given paths are, read-only.
# `findmnt` tells which flags a mount has: one that is locked cannot be taken away, and leaving it out would be refused.
_SCRIPT = """
set -eu
path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cwd=$1
shift
mount -t tmpfs -o mode=0755,size=256m tmpfs "$HOME"
while [ "$1" != -- ]; do
  mkdir -p "$HOME${1%/*}"
  if [ -L "$1" ]; then
    cp -P "$1" "$HOME$1"
  else
    if [ -d "$1" ]; then mkdir -p "$HOME$1"; elif [ ! -e "$HOME$1" ]; then : > "$HOME$1"; fi
    mount --bind "$1" "$HOME$1"
    flags=$(findmnt -nro VFS-OPTIONS -T "$HOME$1")
    mount -o "remount,bind,ro,${flags#r[ow],}" "$HOME$1"
  fi
  shift
done
shift
cd "$HOME"
mkdir -p ".$HOME" proc .old
mount -t proc proc proc 2>/dev/null || :
pivot_root . .old
umount -l /.old
rmdir /.old
cd "$cwd"
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs env "PATH=$path" "$@"
"""


def confined(command: Sequence[str], cwd: Path, visible: Iterable[Path]) -> list[str]:
    """The command that runs another one confined.

    It has to be started with HOME set to an empty folder, which is one inside too.

    Args:
        command: What is to be run.
        cwd: Where.
        visible: Files and folders that it sees, read-only, beside the system's programs and the Python environment.
    """
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.base_prefix))]
    system = [Path(path) for path in (*_SYSTEM, *_DEVICES)]
    # In order: what is above another one must be there first.
    paths = sorted({path.absolute() for path in (*system, *python, *visible) if os.path.lexists(path)})
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork"]
    return [*unshare, "--kill-child", "sh", "-c", _SCRIPT, "sh", str(cwd), *map(str, paths), "--", *command]


@functools.cache
def problem() -> str | None:
    """Why nothing can be confined on this machine; None where it can."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return "there is no `unshare` of util-linux"
    with tempfile.TemporaryDirectory(prefix="mlops-plan-") as folder:
        command = confined([sys.executable, "-c", ""], Path("/"), [])
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder}
        tried = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return None
    return (tried.stderr.strip().splitlines() or [f"`unshare` ended with exit code {tried.returncode}"])[0]
