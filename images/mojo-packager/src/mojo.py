"""A MOJO as a file: is it whole, which H2O wrote it, and its canonical form and digest.

Two trainings of the same inputs give MOJOs that differ in `experimental/` (times, free memory) and in two lines of
`model.ini`: when, and under which name of the training frame. The digest leaves these out; the canonical archive, which
the library carries, fixes them, so that the same model gives the same library.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from errors import InputError

INI = "model.ini"
VOLATILE = ("timestamp", "uuid")


@dataclass(frozen=True)
class Mojo:
    """A MOJO that was read whole: its entries without `experimental/`, sorted, and what its `model.ini` says."""

    entries: dict[str, bytes]
    info: dict[str, str]

    @property
    def h2o_version(self) -> str:
        """The H2O that wrote it."""
        return self.info["h2o_version"]

    @property
    def digest(self) -> str:
        """The sha256, as hex, over name, length and bytes of each entry, without the volatile lines."""
        found = hashlib.sha256()
        for name, content in self._with_volatile({}).items():
            found.update(f"{name}\0{len(content)}\0".encode())
            found.update(content)
        return found.hexdigest()

    def write_canonical(self, path: Path) -> None:
        """Write the MOJO so that its bytes depend on the model alone."""
        fixed = {"timestamp": "2000-01-01T00:00:00.000Z", "uuid": str(int(self.digest[:15], 16))}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in self._with_volatile(fixed).items():
                # Stored, not deflated: zlib's bytes differ between its builds, and the jar compresses anyway.
                archive.writestr(zipfile.ZipInfo(name), content)

    def _with_volatile(self, fixed: dict[str, str]) -> dict[str, bytes]:
        """Give the entries with the volatile lines of `model.ini` as in `fixed`, and without those not named there."""
        lines = []
        for line in self.entries[INI].splitlines():
            key = line.partition(b"=")[0].strip().decode(errors="replace")
            if key not in VOLATILE:
                lines.append(line)
            elif key in fixed:
                lines.append(f"{key} = {fixed[key]}".encode())
        return {**self.entries, INI: b"\n".join(lines)}


def read(path: Path) -> Mojo:
    """Read a MOJO and check that it is one, whole, of a two-class model.

    Raises:
      InputError: It is not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                name for name in archive.namelist() if not name.startswith("experimental/") and not name.endswith("/")
            )
            entries = {name: archive.read(name) for name in names}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the MOJO that the trainer wrote") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise InputError(
            f"{path}: not a whole MOJO ({error}); it was damaged after training: fetch or train it again"
        ) from None
    if INI not in entries:
        raise InputError(f"{path}: a zip file, but no MOJO: it has no {INI}")
    info = dict(_pairs(entries[INI]))
    missing = [key for key in ("h2o_version", "category", "n_features") if key not in info]
    if missing:
        raise InputError(f"{path}: its {INI} does not say {', '.join(missing)}; it is no MOJO, or was damaged")
    if info["category"] != "Binomial":
        raise InputError(f"{path}: a {info['category']} model; libraries are made of models of two classes (Binomial)")
    return Mojo(entries, info)


def _pairs(ini: bytes) -> Iterator[tuple[str, str]]:
    for line in ini.decode(errors="replace").partition("[columns]")[0].splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key.strip(), value.strip()
