"""The canonical digest of a MOJO: equal for two trainings that gave the same model.

Two trainings of the same inputs differ in `experimental/` (times, free memory) and in two lines of `model.ini`: when,
and under which name of the training frame. The digest leaves these out and covers every other byte.
"""

import hashlib
import zipfile
from pathlib import Path


def model_digest(mojo: Path) -> str:
    """Give the sha256, as hex, over name, length and bytes of each entry that makes the model, sorted by name."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(mojo) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("experimental/") or name.endswith("/"):
                continue
            content = archive.read(name)
            if name == "model.ini":
                kept = (
                    line for line in content.splitlines() if line.split(b"=")[0].strip() not in (b"timestamp", b"uuid")
                )
                content = b"\n".join(kept)
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()
