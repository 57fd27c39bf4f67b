"""Raw data into the data bucket, under its digest: what a run names as its input never changes.

Owns: where raw data lies, and that all of it is there: `gs://<bucket>/raw/sha256/<digest>/<file name>`. The digest of
one file is its SHA-256; that of several is the SHA-256 of `SHA256SUMS`, which lies beside them, is written last, and
lists them as `sha256sum` does. Nothing is overwritten; a repeat finds everything there. Deliberately knows no format.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from mlops_registry.bucket import Bucket

SUMS = "SHA256SUMS"
FEED = "feed:"
"""Begins the name of a file of the embedded platform's feed."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PART = 1 << 20
_TIMEOUT = (10, 60)


class DataError(Exception):
    """The data cannot be pushed; the message is one line.

    Attributes:
        exit_code: 2 where a repeat would say the same, else 1.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


@dataclass(frozen=True)
class Feed:
    """The embedded platform's feed: its address, and the file of the authority that its certificate is from."""

    url: str
    ca_file: str


@dataclass(frozen=True)
class File:
    """A pushed file."""

    name: str
    size: int
    sha256: str
    uri: str


@dataclass(frozen=True)
class Pushed:
    """What was pushed; `uri` is the folder that a run names."""

    uri: str
    digest: str
    files: list[File]


Progress = Callable[[str, str, int, int | None], None]
"""Is told what is done with a file: (`Reading` or `Storing`, its name, bytes so far, bytes in all if known)."""


def push(
    sources: Iterable[str], bucket: str, *, feed: Feed | None = None, progress: Progress = lambda *_: None
) -> Pushed:
    """Bring files into a bucket, all of them or, where a source cannot be read, none.

    Args:
        sources: Paths, http(s) addresses, or `feed:NAME`; what ends them names the file.
        bucket: The data bucket's name.
        feed: Of the embedded platform, where there is one.
        progress: Is told what is being done.

    Raises:
        DataError: A source cannot be read, or its name cannot be used.
        RegistryError: The bucket refuses, or does not answer.
    """
    named = _named(sources, feed)
    # What is stored is what was hashed, whatever happens to the source meanwhile: hence the copy.
    with _temporary() as folder:
        digests, sizes = {}, {}
        for name, source in named.items():
            copy = Path(folder, name)
            digests[name], sizes[name] = _copy(_parts(source, name, feed, progress), copy)
            if not sizes[name]:
                raise DataError(f"{_shown(source)} is empty, so nothing was pushed; give a file with data")
        sums = "".join(f"{digests[name]}  {name}\n" for name in sorted(named)).encode()
        digest = hashlib.sha256(sums).hexdigest() if len(named) > 1 else next(iter(digests.values()))
        prefix, target = f"raw/sha256/{digest}", Bucket(bucket)
        for name in named:
            progress("Storing", name, 0, sizes[name])
            target.create(f"{prefix}/{name}", Path(folder, name))
            progress("Storing", name, sizes[name], sizes[name])
        if len(named) > 1:
            target.create(f"{prefix}/{SUMS}", sums)
    uri = f"gs://{bucket}/{prefix}"
    return Pushed(uri, digest, [File(name, sizes[name], digests[name], f"{uri}/{name}") for name in named])


@contextmanager
def _temporary() -> Iterator[str]:
    folder = None
    try:
        with tempfile.TemporaryDirectory(prefix="mlops-data-") as folder:
            yield folder
    except OSError as error:
        where = folder or "the temporary folder"
        raise DataError(
            f"the data cannot be kept in {where} ({error.strerror}), so nothing was pushed; make room there, or set "
            "TMPDIR to a folder with more",
            exit_code=1,
        ) from None


def _named(sources: Iterable[str], feed: Feed | None) -> dict[str, str]:
    named: dict[str, str] = {}
    for given in sources:
        source = given
        if given.startswith(FEED):
            if feed is None:
                raise DataError(
                    f"{given} is a file of the embedded platform's feed, which serves stacks without a Nomad of their "
                    "own; give a path or an http(s) address"
                )
            source = f"{feed.url}/data/{given.removeprefix(FEED)}"
        try:
            parts = urlsplit(source) if "://" in source else None
        except ValueError:
            raise DataError(f"{source} is no address, so nothing was pushed; correct it") from None
        if parts and parts.scheme not in ("http", "https"):
            raise DataError(
                f"{parts.scheme}:// is nothing that a file is read from, so nothing was pushed; give a path or an "
                "http(s) address"
            )
        if parts and (parts.username is not None or parts.password is not None):
            raise DataError(
                f"the address of {parts.hostname} holds credentials, which would be shown, so nothing was pushed; give "
                "one without, or download the file"
            )
        name = unquote(parts.path).rpartition("/")[2] if parts else Path(source).name
        if not _NAME.fullmatch(name) or name == SUMS:
            raise DataError(
                f"{_shown(source)}: {name!r} cannot name a file in the bucket, so nothing was pushed; use letters, "
                f"digits, dots, dashes and underscores, and not {SUMS}"
            )
        if name in named:
            raise DataError(f"two files are named {name}, so nothing was pushed; rename one, or push them one by one")
        named[name] = source
    if not named:
        raise DataError("no file is named, so nothing was pushed; name one or more")
    return named


def _copy(parts: Iterable[bytes], target: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        for part in parts:
            digest.update(part)
            size += len(part)
            file.write(part)
    return digest.hexdigest(), size


def _parts(source: str, name: str, feed: Feed | None, progress: Progress) -> Iterator[bytes]:
    done = 0
    with _opened(source, feed) as (parts, total):
        progress("Reading", name, 0, total)
        for part in parts:
            yield part
            done += len(part)
            progress("Reading", name, done, total)


@contextmanager
def _opened(source: str, feed: Feed | None) -> Iterator[tuple[Iterable[bytes], int | None]]:
    if "://" in source:
        with _downloaded(source, feed) as answer:
            length = answer.headers.get("Content-Length", "")
            yield answer.iter_content(_PART), int(length) if length.isdecimal() else None
        return
    path = Path(source)
    try:
        # A pipe or a device would be waited for, perhaps for ever.
        if not path.is_file():
            problem = "is no file" if path.exists() else "is not there"
            raise DataError(f"{source} {problem}, so nothing was pushed; name files")
        with path.open("rb") as file:
            yield iter(lambda: file.read(_PART), b""), path.stat().st_size
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}), so nothing was pushed; correct that") from None


@contextmanager
def _downloaded(url: str, feed: Feed | None) -> Iterator[Any]:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
    try:
        with requests.Session() as session:
            session.mount(url[: url.index("://") + 3], HTTPAdapter(max_retries=retry))
            if feed and url.startswith(f"{feed.url}/"):
                # Loopback is no proxy's business, and its authority is the platform's own.
                session.trust_env, session.verify = False, feed.ca_file
            # The file's own bytes: what is packed on the way would be hashed otherwise.
            with session.get(url, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as answer:
                if answer.status_code != requests.codes.ok:
                    passes = answer.status_code >= 500 or answer.status_code in (408, 429)
                    raise DataError(
                        f"{_shown(url)} answered HTTP {answer.status_code}, so nothing was pushed; "
                        + ("try again later" if passes else "correct the address, or who may read it"),
                        exit_code=1 if passes else 2,
                    )
                yield answer
    except requests.exceptions.SSLError:
        raise DataError(
            f"{_shown(url)} has no certificate that is trusted here, so nothing was pushed; REQUESTS_CA_BUNDLE names "
            "an authority of your own"
        ) from None
    except requests.RequestException as error:
        raise DataError(
            f"{_shown(url)} was not delivered whole ({type(error).__name__}), so nothing was pushed; try again",
            exit_code=1,
        ) from None


def _shown(source: str) -> str:
    """A source as it may be shown: of an address no query, which may be a signature."""
    if "://" not in source:
        return source
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
