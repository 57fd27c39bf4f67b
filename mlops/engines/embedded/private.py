"""Files that only this user writes and reads: the state folder, its locks, what says how a platform is reached.

Owns: that a folder or file which another user put there, or a link, is never followed. The standard library only, as
every command uses it; `filelock` checks no owner, and one system call is all it would save.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class UnsafeError(OSError):
    """A folder or file that others may have changed; the message is one line."""


def folder(path: Path) -> None:
    """Make a folder that only this user can enter, or make sure that it is one.

    Raises:
      UnsafeError: It belongs to somebody else, or others may write there.
      OSError: It cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    check(path)
    if stat.S_IMODE(path.stat().st_mode) != 0o700:
        path.chmod(0o700)


def check(path: Path) -> None:
    """Make sure that a folder is this user's own and nobody else's to write."""
    link, found = path.lstat(), path.stat()
    for each in (link, found):
        if each.st_uid != os.geteuid():
            raise UnsafeError(f"{path} belongs to another user (uid {each.st_uid})")
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeError(f"{path} is no folder")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeError(f"other users may write to {path} (mode {stat.S_IMODE(found.st_mode):04o})")


def opened(path: Path, mode: str) -> IO[bytes]:
    """Open a file of this user's own, which is made for this user alone if need be; a link is not followed.

    Args:
      path: The file.
      mode: `rb`, `ab`, or `wb`, which empties it.

    Raises:
      UnsafeError: It is a link, no plain file, or somebody else's.
      OSError: It cannot be opened.
    """
    flags = {"rb": os.O_RDONLY, "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND, "wb": os.O_WRONLY | os.O_CREAT}[mode]
    if path.is_symlink():  # for the message; what counts is the flag
        raise UnsafeError(f"{path} is a link, and links are not followed")
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise UnsafeError(f"{path} is not a plain file of this user")
        if mode == "wb":
            os.ftruncate(descriptor, 0)
        return os.fdopen(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock, which is a file, for as long as the block runs.

    Raises:
      BlockingIOError: Somebody else holds it.
      UnsafeError: As `opened` says.
      OSError: As `opened` says.
    """
    with opened(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
