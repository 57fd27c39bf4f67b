"""The registry's own records in a bucket, each read whole and believed only where it names what it lies under."""

import re

from . import names
from .bucket import Bucket
from .errors import BadInputError, IntegrityError, NotFoundError, NotVerifiedError
from .manifest import Alias, AnyRecord, Manifest, Verification, parse


class Records:
    """Manifests, verifications and aliases of one bucket path."""

    def __init__(self, bucket: Bucket, path: names.BucketPath):
        self._bucket = bucket
        self._path = path

    def manifest(self, model: str, version_id: str) -> Manifest:
        """A version's manifest.

        Raises:
            NotFoundError: there is none.
            IntegrityError: it is damaged, or another version's.
        """
        found = self._bucket.read(self._path.version(model, version_id, names.MANIFEST))
        if found is None:
            self._bucket.check()
            raise NotFoundError(
                f"no version {model}/{version_id} in {self._path}: list the versions to see what there is"
            )
        manifest = _parsed(Manifest, found[0], f"the manifest of {version_id}")
        if (manifest.model, manifest.version_id) != (model, version_id):
            raise IntegrityError(
                f"the manifest of {model}/{version_id} is that of {manifest.model}/{manifest.version_id}"
            )
        return manifest

    def verifications(self, model: str, version_id: str) -> list[Verification]:
        """A version's verifications, oldest first."""
        found = (self.verification(model, version_id, name) for name in self._verifications(model, version_id))
        return [verification for verification in found if verification]

    def newest(self, model: str, version_id: str) -> Verification | None:
        """A version's newest verification."""
        stored = self._verifications(model, version_id)
        return self.verification(model, version_id, stored[-1]) if stored else None

    def verification(self, model: str, version_id: str, name: str) -> Verification | None:
        """A verification by its object's name; None if it is gone.

        Raises:
            IntegrityError: it is damaged, or another version's.
        """
        if (found := self._bucket.read(name)) is None:
            return None
        verification = _parsed(Verification, found[0], f"gs://{self._path.bucket}/{name}")
        if (verification.model, verification.version_id) != (model, version_id):
            raise IntegrityError(
                f"gs://{self._path.bucket}/{name} is a verification of {verification.model}/{verification.version_id}, "
                "so it says nothing here: remove it"
            )
        return verification

    def alias(self, model: str, alias: str) -> Alias | None:
        """An alias, wherever it points; None if there is none.

        Raises:
            IntegrityError: it is damaged, or another alias.
        """
        if (found := self._bucket.read(self._path.alias(model, alias))) is None:
            return None
        record = _parsed(Alias, found[0], f"alias {alias!r} of {model}")
        if (record.model, record.alias) != (model, alias):
            raise IntegrityError(
                f"alias {alias!r} of {model} is a record of {record.model}/{record.alias}, so it is not followed: "
                f"promote a version to {alias!r} again"
            )
        return record

    def followed(self, model: str, alias: str) -> str:
        """The version id that an alias means to whoever uses it.

        Raises:
            NotFoundError: there is no such alias.
            IntegrityError: it is damaged, or another alias.
            NotVerifiedError: its version's newest verification did not pass.
        """
        if (record := self.alias(model, alias)) is None:
            raise NotFoundError(f"no alias {alias!r} of {model} in {self._path}")
        newest = self.newest(model, record.version_id)
        if newest is None or not newest.passed:
            why = f"failed ({newest.message})" if newest else "is missing"
            raise NotVerifiedError(
                f"alias {alias!r} of {model} is not followed: the newest verification of {record.version_id} {why}; "
                "name the version to verify it, or promote another one"
            )
        return record.version_id

    def _verifications(self, model: str, version_id: str) -> list[str]:
        """Names of their objects, oldest first."""
        folder = self._path.version(model, version_id, f"{names.VERIFICATIONS}/")
        found = (item.name for item in self._bucket.entries(folder))
        return sorted(name for name in found if re.fullmatch(rf"{names.TIME}\.json", name.removeprefix(folder)))


def _parsed(record: type[AnyRecord], data: bytes, what: str) -> AnyRecord:
    try:
        return parse(record, data, what)
    except BadInputError as error:
        raise IntegrityError(str(error)) from None
