"""The bucket: the few operations the registry needs, on google-cloud-storage.

Owns retries, checksums, write preconditions and the translation of the library's exceptions into one-line errors.
Knows nothing of models and versions. `STORAGE_EMULATOR_HOST` works as always.
"""

import base64
import functools
import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from .errors import (
    AccessError,
    BadInputError,
    ConflictError,
    IntegrityError,
    LostRaceError,
    NoBucketError,
    RegistryError,
    TooLargeError,
    UnavailableError,
)

DEADLINE_VARIABLE = "MLOPS_REGISTRY_DEADLINE"
_DEADLINE = 300.0
_TIMEOUT = (10.0, 120.0)
_RECORD_LIMIT = 64 << 20  # no manifest, verification or alias comes near it
_LARGE = 8 << 20  # what the library sends in one request


@dataclass(frozen=True)
class Stored:
    """One object of a listing: its name and custom metadata."""

    name: str
    metadata: dict[str, str]


class Limited:
    """What a download is written to: takes no more bytes than it may, and knows their SHA-256.

    Attributes:
        size: how many bytes came.
    """

    def __init__(self, limit: int, file: IO[bytes] | None):
        if file:  # what an attempt before left
            file.seek(0)
            file.truncate()
        self._file = file
        self._limit = limit
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, part: bytes) -> int:
        """Take the next bytes.

        Raises:
            TooLargeError: they are too many, and the rest is not asked for.
        """
        self.size += len(part)
        if self.size > self._limit:
            raise TooLargeError(f"there are more than {self._limit} bytes")
        self._digest.update(part)
        return self._file.write(part) if self._file else len(part)

    @property
    def sha256(self) -> str:
        """SHA-256 of what came."""
        return self._digest.hexdigest()


class Bucket:
    """A bucket whose transient errors are retried with exponential backoff until a deadline.

    Args:
        name: the bucket's name.
        deadline: for how many seconds one request is repeated; None: `MLOPS_REGISTRY_DEADLINE`, or five minutes.
    """

    def __init__(self, name: str, deadline: float | None = None):
        self.name = name
        self.deadline = _deadline() if deadline is None else deadline

    @functools.cached_property
    def client(self) -> Any:
        """The library's client, made when first needed."""
        # Without this the library asks for the bucket's own metadata beside the first request, which costs a request
        # and a permission, for traces that nobody collects.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        with self._translated():
            return library().storage.Client(project=None)

    def read(self, name: str) -> tuple[bytes, int] | None:
        """The bytes and generation of an object that is one of the registry's records, or None.

        Raises:
            IntegrityError: it is larger than any record.
        """
        blob = self.client.bucket(self.name).blob(name)
        content = io.BytesIO()
        try:
            if not self._download(blob, Limited(_RECORD_LIMIT, content), "crc32c"):
                return None
        except TooLargeError as error:
            raise IntegrityError(f"gs://{self.name}/{name} is none of the registry's records: {error}") from None
        return content.getvalue(), int(blob.generation)

    def download(self, name: str, target: "Limited") -> bool:
        """Write an object's bytes where the caller checks them; False if there is none.

        Raises:
            TooLargeError: there are more than there may be.
        """
        return self._download(self.client.bucket(self.name).blob(name), target, None)

    def _download(self, blob: Any, target: "Limited", checksum: str | None) -> bool:
        with self._translated():
            try:
                blob.download_to_file(target, checksum=checksum, **self._options)
            except library().api.NotFound:
                return False
        return True

    def create(self, name: str, content: bytes | Path, metadata: dict[str, str] | None = None) -> None:
        """Write an object that must not exist yet; the same bytes may.

        A repeat therefore succeeds, and so does a write whose answer was lost and that the library sent twice.

        Raises:
            ConflictError: it exists with other bytes.
        """
        try:
            # A large file is looked for first: a repeat does not send it twice, and the emulator ignores the
            # precondition of uploads in parts.
            if isinstance(content, Path) and content.stat().st_size > _LARGE and self._blob(name):
                raise LostRaceError(name)
            self._write(name, content, 0, metadata)
        except LostRaceError:
            blob = self._blob(name)
            if blob is None or not _same(content, blob):
                raise ConflictError(
                    f"gs://{self.name}/{name} exists with other bytes and is never overwritten: use another version id"
                ) from None

    def replace(self, name: str, content: bytes, generation: int, metadata: dict[str, str]) -> None:
        """Overwrite exactly that generation of an object (0: it must not exist).

        Raises:
            LostRaceError: it is another generation by now.
        """
        try:
            self._write(name, content, generation, metadata)
        except LostRaceError:
            # The precondition also fails on a repeat of our own write whose answer was lost.
            if (found := self.read(name)) is None or found[0] != content:
                raise

    def entries(self, prefix: str, glob: str | None = None) -> Iterator[Stored]:
        """Objects under a prefix, with their custom metadata, in as few and small pages as the server gives.

        Args:
            prefix: of the names.
            glob: for the server to filter by; a server may ignore it, so the caller checks the names it gets.
        """
        with self._translated():
            # The emulator walks the whole bucket for each page, so a large one is asked for; GCS gives 1,000 at most.
            blobs = self.client.list_blobs(
                self.name,
                prefix=prefix,
                match_glob=glob,
                page_size=1_000_000,
                fields="items(name,size,metadata),nextPageToken",
                **self._options,
            )
            try:
                for blob in blobs:
                    yield Stored(blob.name, blob.metadata or {})
            except library().api.NotFound:
                raise self._missing() from None

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly under a prefix."""
        with self._translated():
            blobs = self.client.list_blobs(
                self.name, prefix=prefix, delimiter="/", fields="prefixes,nextPageToken", **self._options
            )
            try:
                for _ in blobs:
                    pass
            except library().api.NotFound:
                raise self._missing() from None
            return sorted(folder.removeprefix(prefix).rstrip("/") for folder in blobs.prefixes)

    def check(self) -> None:
        """Make sure that the bucket is there, as a missing object looks like a missing bucket.

        Raises:
            NotFoundError: it is not.
        """
        with self._translated():
            try:
                next(
                    iter(self.client.list_blobs(self.name, max_results=1, fields="items(name)", **self._options)), None
                )
            except library().api.NotFound:
                raise self._missing() from None

    def _blob(self, name: str) -> Any:
        with self._translated():
            return self.client.bucket(self.name).get_blob(name, **self._options)

    def _write(self, name: str, content: bytes | Path, generation: int, metadata: dict[str, str] | None) -> None:
        blob = self.client.bucket(self.name).blob(name)
        blob.metadata = metadata
        options = {"if_generation_match": generation, "checksum": "crc32c", **self._options}
        kind = "application/json" if name.endswith(".json") else "application/octet-stream"
        with self._translated():
            try:
                if isinstance(content, Path):
                    blob.upload_from_filename(str(content), content_type=kind, **options)
                else:
                    blob.upload_from_string(content, content_type=kind, **options)
            except library().api.PreconditionFailed:
                raise LostRaceError(f"gs://{self.name}/{name} was changed by somebody else at the same time") from None
            except library().api.NotFound:
                raise self._missing() from None

    @functools.cached_property
    def _options(self) -> dict[str, Any]:
        retry = library().DEFAULT_RETRY.with_delay(0.5, 20.0, 2.0).with_timeout(self.deadline)
        return {"retry": retry, "timeout": _TIMEOUT}

    def _missing(self) -> NoBucketError:
        return NoBucketError(
            f"bucket {self.name} does not exist, or is not visible to these credentials: create it or correct the path"
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        api, auth = library().api, library().auth
        try:
            yield
        except RegistryError:
            raise
        except auth.DefaultCredentialsError:
            raise AccessError(
                f"no Google credentials were found, so bucket {self.name} cannot be used: "
                "run `gcloud auth application-default login`, or set STORAGE_EMULATOR_HOST for a local bucket"
            ) from None
        except (api.Forbidden, api.Unauthorized) as error:
            raise AccessError(
                f"bucket {self.name}: access denied ({_text(error)}): grant a role on the bucket"
            ) from None
        except (auth.RefreshError, auth.MalformedError) as error:
            raise AccessError(
                f"bucket {self.name}: the Google credentials do not work ({error}): log in again"
            ) from None
        except library().DataCorruption:
            raise UnavailableError(
                f"bucket {self.name}: an object's bytes do not fit its crc32c: try again; if it stays, it is damaged"
            ) from None
        except (api.RetryError, library().RequestException) as error:
            raise UnavailableError(
                f"bucket {self.name} did not answer for {self.deadline:g} s ({_text(getattr(error, 'cause', error))}): "
                "repeat the command when it does; what was already written is kept"
            ) from None
        except (api.GoogleAPICallError, auth.GoogleAuthError) as error:
            raise RegistryError(f"bucket {self.name}: {_text(error)}") from None


@functools.cache
def library() -> Any:
    """What is used of Google's libraries, imported when first needed."""
    # On Pythons that they will leave behind next year they say so on import; it is no matter of whoever asks for a
    # version. For the text they look through all installed packages, which costs a sixth of a second on Python 3.11.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud import storage
    from google.cloud.storage.exceptions import DataCorruption
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests import RequestException

    return SimpleNamespace(
        api=api,
        auth=auth,
        storage=storage,
        DataCorruption=DataCorruption,
        DEFAULT_RETRY=DEFAULT_RETRY,
        RequestException=RequestException,
    )


def _text(error: object) -> str:
    """What the server said; not the library's text, which repeats the whole request."""
    details = getattr(error, "errors", None) or [{}]
    code = f"HTTP {int(error.code)}" if getattr(error, "code", None) else type(error).__name__  # pyright: ignore[reportAttributeAccessIssue]
    message = details[0].get("message") if isinstance(details[0], dict) else None
    return f"{code}, {message}" if message else code


def _deadline() -> float:
    text = os.environ.get(DEADLINE_VARIABLE) or str(_DEADLINE)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 86400:
        raise BadInputError(f"{DEADLINE_VARIABLE}={text!r} is not a number of seconds between 0 and 86400")
    return value


def _same(content: bytes | Path, blob: Any) -> bool:
    import google_crc32c

    crc, md5, size = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False), 0
    for part in _parts(content):
        crc.update(part)
        md5.update(part)
        size += len(part)
    encoded = [base64.b64encode(checksum.digest()).decode() for checksum in (crc, md5)]
    # GCS has no MD5 of composite objects.
    return [blob.size, blob.crc32c, blob.md5_hash or encoded[1]] == [size, *encoded]


def _parts(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while part := file.read(1 << 20):
            yield part
