"""What fake-gcs-server knows of an object beside its bytes, made anew where a copy of the state folder lost it.

The emulator keeps it in an extended attribute of the object's file, or, where the file system has no such thing, in a
file beside it. `cp -r`, `tar` and most backup programs leave extended attributes behind; then the emulator lists
nothing of that bucket. The same happens to an object when the machine stops between its bytes and its attribute.
Checksums, size and times follow from the file; an object's own metadata does not come back. Deliberately not: what the
metadata means.
"""

import base64
import errno
import hashlib
import json
import mimetypes
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ATTRIBUTE = "user.metadata"
_BESIDE = ".metadata"
_BUCKETS = ".bucketMetadata"
_CHUNK = 1 << 20
_NEVER = "0001-01-01T00:00:00Z"


def repair(folder: Path) -> int:
    """Give every object below `folder` that has no attributes those that follow from its file; how many they were.

    A bucket's own file that cannot be read, as after a power cut, is taken away: it says nothing that is used here.
    """
    for file in folder.glob(f"*{_BUCKETS}"):
        try:
            json.loads(file.read_bytes())
        except ValueError:
            file.unlink()
    beside = not _supported(folder)
    repaired = 0
    for path in _objects(folder):
        if beside and (path.name.endswith(_BESIDE) or path.with_name(path.name + _BESIDE).exists()):
            continue
        if not beside and _attributed(path):
            continue
        encoded = json.dumps(_attributes(path)).encode()
        if beside:
            path.with_name(path.name + _BESIDE).write_bytes(encoded)
        else:
            os.setxattr(path, ATTRIBUTE, encoded)
        repaired += 1
    return repaired


def _supported(folder: Path) -> bool:
    # As the emulator asks.
    try:
        os.getxattr(folder, ATTRIBUTE)
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def _attributed(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, ATTRIBUTE))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return False


def _objects(folder: Path) -> Iterator[Path]:
    for bucket in folder.iterdir():
        if bucket.is_dir() and not bucket.is_symlink() and not bucket.name.startswith("."):
            for place, _, names in os.walk(bucket):
                for name in names:
                    path = Path(place, name)
                    if path.is_file() and not path.is_symlink():
                        yield path


def _attributes(path: Path) -> dict[str, object]:
    import google_crc32c

    crc, md5 = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc.update(chunk)
            md5.update(chunk)
        stat = os.fstat(file.fileno())
    digest = base64.b64encode(md5.digest()).decode()
    changed = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    owner = {"Entity": "projectOwner-test-project", "EntityID": "", "Role": "OWNER", "Domain": "", "Email": ""}
    return {
        "StorageClass": "STANDARD",
        "ContentType": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        "Crc32c": base64.b64encode(crc.digest()).decode(),
        "Md5Hash": digest,
        "Etag": digest,
        "ACL": [{**owner, "ProjectTeam": None}],
        "Metadata": None,
        "Created": changed,
        "Deleted": _NEVER,
        "Updated": changed,
        "CustomTime": _NEVER,
        "Generation": max(1, stat.st_mtime_ns // 1000),
    }
