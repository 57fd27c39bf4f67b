"""Confinement: a command that has no network, and of the file system only the system's programs and what it is given.

Owns how a program that nobody vouches for is run: in namespaces of its own (util-linux's `unshare`, which needs no root
where the kernel allows user namespaces), with everything it sees read-only unless it is given as writable, and with no
capability. It decides nothing: where the kernel refuses, `problem` says why, and the caller stops unless it was told to
go on. Standard library only, and nothing of this project: images hold a copy of this file.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# Debian keeps Java's settings in /etc, and reaches `java` through /etc/alternatives.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

# In the namespaces: a root of its own at $HOME (an empty folder), in which only the given paths are.
# Folders are bound with the mounts below them: a kernel refuses to show what a mount of another user covers.
# `findmnt` tells which flags a mount has: one that is locked cannot be taken away, and leaving it out would be refused.
_SCRIPT = """
set -eu
path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cwd=$1
python=$2
shift 2
mount -t tmpfs -o mode=0755,size=256m tmpfs "$HOME"
while [ "$1" != -- ]; do
  mkdir -p "$HOME${2%/*}"
  if [ "$1" = link ]; then
    cp -P "$2" "$HOME$2"
  else
    if [ -d "$2" ]; then mkdir -p "$HOME$2"; elif [ ! -e "$HOME$2" ]; then : > "$HOME$2"; fi
    mount --rbind "$2" "$HOME$2"
    if [ "$1" = read ]; then
      mounts=$(findmnt --noheadings --list --notruncate --submounts --output VFS-OPTIONS,TARGET "$HOME$2")
      while read -r flags target; do
        flags=,$flags
        mount -o "remount,bind,ro${flags#,r[ow]}" "$target"
      done <<END
$mounts
END
    fi
  fi
  shift 2
done
shift
cd "$HOME"
mkdir -p ".$HOME" proc .old dev/shm tmp
chmod 1777 dev/shm tmp
mount -t proc proc proc 2>/dev/null || :
"$python" -I -S -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 0x41))'
pivot_root . .old
umount -l /.old
rmdir /.old
cd "$cwd"
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs env "PATH=$path" "$@"
"""


def confined(command: Sequence[str], cwd: Path, visible: Iterable[Path], *, writable: Iterable[Path] = ()) -> list[str]:
    """The command that runs another one confined.

    It has to be started with HOME set to an empty folder that is none of `visible` and `writable`. Inside, that folder,
    /tmp and /dev/shm are its own: writable, in memory, gone with it. Its network is a loopback interface of its own.

    It gets the standard streams and every file descriptor that it is started with (`pass_fds`); give it pipes or files,
    never a terminal. It is killed with the thread that started it. End it by SIGKILL: other signals do not reach it.

    Args:
        command: What is to be run.
        cwd: Where.
        visible: Files and folders that it sees, read-only, beside the system's programs and the Python environment.
        writable: Files and folders that it may change.
    """
    python = [sys.prefix, sys.base_prefix, sys.executable]
    java = Path("/etc").glob("java*")
    read = [*map(Path, (*_SYSTEM, *_DEVICES, *python)), *java, *visible]
    places = [(kind, str(path)) for kind, path in _places(read, writable)]
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"]
    shown = [word for place in places for word in place]
    return [
        *("setpriv", "--pdeathsig", "KILL", *alone, "sh", "-c", _SCRIPT, "sh"),
        *(str(cwd), sys.executable, *shown, "--", *command),
    ]


def _places(read: Iterable[Path], write: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """What the root of the confined command is made of, in order: `link`, `read` or `write`, and the path."""
    found: dict[Path, str] = {}
    for kind, paths in (("read", read), ("write", write)):
        for path in paths:
            # Of the system's some are missing anywhere, and a link in circles is no file.
            if path.exists():
                *links, real = _reached(path)
                found |= dict.fromkeys(links, "link") | {real: kind}
    kept: dict[Path, str] = {}
    # What is above another one must be there first.
    for path in sorted(found):
        above = next((kept[parent] for parent in path.parents if parent in kept), None)
        # A link in a folder that is shown is there already.
        if above is None or found[path] not in ("link", above):
            kept[path] = found[path]
            yield found[path], path


def _reached(path: Path) -> Iterator[Path]:
    """The links that a path leads through, and last what it leads to."""
    here, ahead = Path("/"), [*path.absolute().parts[1:]]
    while ahead:
        part = ahead.pop(0)
        if part == "..":
            here = here.parent
        elif (here / part).is_symlink():
            yield here / part
            target = (here / part).readlink()
            here, ahead = Path("/") if target.is_absolute() else here, [*target.parts[target.is_absolute() :], *ahead]
        else:
            here /= part
    yield here


@functools.cache
def problem() -> str | None:
    """Why nothing can be confined on this machine; None where it can."""
    if sys.platform != "linux":
        return "only Linux has the namespaces that it takes"
    missing = [name for name in ("unshare", "setpriv", "findmnt", "mount", "pivot_root") if not _tool(name)]
    if missing:
        return f"{missing[0]} of util-linux is not installed"
    with tempfile.TemporaryDirectory(prefix="mlops-confinement-") as folder:
        command = confined([sys.executable, "-c", ""], Path("/"), [])
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder}
        tried = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if tried.returncode == 0:
        return None
    why = (tried.stderr.strip().splitlines() or [f"`unshare` ended with exit code {tried.returncode}"])[0]
    return f"{why} (sysctl {_APPARMOR.name}=1 restricts user namespaces)" if _restricted() else why


def _tool(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")


_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
"""What Ubuntu forbids user namespaces with since 24.04."""


def _restricted() -> bool:
    try:
        return _APPARMOR.read_text().strip() == "1"
    except OSError:
        return False
