"""Artifacts between the bucket and a step's own folder, through the GCS API.

Owns: files and folders by key, in the artifact repository's bucket or one that is named. Deliberately not: archives (a
file is stored as it is, as `archive: {none: {}}` says), keys, and who needs what.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.engines.embedded.errors import EmbeddedError

Location = Mapping[str, Any]
"""An artifact's place as a definition writes it: {"gcs": {"key": ..., "bucket": ...}} or {"raw": {"data": ...}}."""


class ArtifactError(EmbeddedError):
    """An artifact is missing, or the bucket did not answer."""


class Repository:
    """The artifact repository of one platform.

    Args:
        endpoint: What STORAGE_EMULATOR_HOST is.
        bucket: Where key-only artifacts are.
    """

    def __init__(self, endpoint: str, bucket: str) -> None:
        self.bucket = bucket
        self._endpoint = endpoint
        self._opened: Any = None

    def _client(self) -> Any:
        if self._opened is None:
            from google.auth.credentials import AnonymousCredentials
            from google.cloud import storage

            self._opened = storage.Client(
                project="embedded", credentials=AnonymousCredentials(), client_options={"api_endpoint": self._endpoint}
            )
        return self._opened

    def fetch(self, location: Location, target: Path, what: str) -> bool:
        """Bring an artifact to a path, as a file or a folder; False if there is none. Blocks.

        Raises:
          ArtifactError: The bucket did not answer, or the place is none that is understood.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if "raw" in location:
            target.write_text(location["raw"]["data"])
            return True
        bucket, key = self._place(location, what)
        with _said(what, bucket, key):
            blobs = [
                blob
                for blob in self._client().list_blobs(bucket, prefix=key.rstrip("/"))
                if not blob.name.endswith("/")
            ]
            if not key.endswith("/") and any(blob.name == key for blob in blobs):
                self._client().bucket(bucket).blob(key).download_to_filename(str(target))
                return True
            folder = key.rstrip("/") + "/"
            inside = [blob for blob in blobs if blob.name.startswith(folder)]
            for blob in inside:
                relative = blob.name[len(folder) :]
                if any(part in ("", ".", "..") for part in relative.split("/")):
                    raise ArtifactError(f"{what}: gs://{bucket}/{blob.name} is not a path below {folder}")
                path = target / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                blob.download_to_filename(str(path))
            return bool(inside)

    def store(self, source: Path, location: Location, what: str) -> None:
        """Put a file or a folder at its place; what a folder held there before goes. Blocks.

        Raises:
          ArtifactError: The bucket did not answer.
        """
        bucket_name, key = self._place(location, what)
        with _said(what, bucket_name, key):
            bucket = self._client().bucket(bucket_name)
            if source.is_file():
                bucket.blob(key.rstrip("/")).upload_from_filename(str(source), checksum="crc32c")
                return
            folder = key.rstrip("/") + "/"
            wanted = {
                folder + path.relative_to(source).as_posix(): path
                for path in sorted(source.rglob("*"))
                if path.is_file()
            }
            for name, path in wanted.items():
                bucket.blob(name).upload_from_filename(str(path), checksum="crc32c")
            # An earlier attempt of the same step may have left what this one did not make.
            for blob in self._client().list_blobs(bucket_name, prefix=folder):
                if blob.name not in wanted:
                    blob.delete()

    def _place(self, location: Location, what: str) -> tuple[str, str]:
        gcs = location.get("gcs") or {}
        key = gcs.get("key")
        if not key or key.strip("/") == "":
            raise ArtifactError(f"{what} has no key in the bucket")
        return gcs.get("bucket") or self.bucket, key


class _said:  # noqa: N801 - a context manager
    def __init__(self, what: str, bucket: str, key: str) -> None:
        self._place = f"{what}: gs://{bucket}/{key}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        if isinstance(error, GoogleAPIError | GoogleAuthError | RequestException | OSError):
            raise ArtifactError(f"{self._place}: {' '.join(str(error).split())[:300]}") from error
