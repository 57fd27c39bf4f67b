"""Names and where they lie in the bucket.

Every name is matched in full against a strict pattern before it becomes a part of an object name or a local path, also
when it was read back from the bucket: a manifest is somebody else's input.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from .errors import BadInputError

MODEL = r"[a-z][a-z0-9-]{0,62}"
VERSION_ID = r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}_v[0-9A-Za-z][0-9A-Za-z.-]{0,31}_[0-9A-Za-z][0-9A-Za-z-]{0,63}"
ALIAS = r"[a-z][a-z0-9-]{0,31}"
FORMAT = r"[a-z][a-z0-9-]{0,31}"
TIME = r"\d{8}T\d{6}\.\d{6}Z"
_SEGMENT = r"[0-9A-Za-z_][0-9A-Za-z._+-]{0,199}"
FILE = rf"{_SEGMENT}(/{_SEGMENT}){{0,31}}"
_BUCKET_PATH = rf"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{{1,220}}[a-z0-9])(?P<prefix>(/{_SEGMENT}){{0,8}})/?"

MANIFEST = "manifest.json"
VERIFICATIONS = "verifications"
ALIASES = "aliases"


def checked(kind: str, pattern: str, value: str) -> str:
    """Give `value` back if it is a well-formed name.

    Raises:
        BadInputError: it is not; the message shows it escaped.
    """
    if not re.fullmatch(pattern, value) or ".." in value:
        raise BadInputError(f"{value!r} is not {kind}: it must match {pattern}")
    return value


def model_name(value: str) -> str:
    """Check a model's name."""
    return checked("a model name", MODEL, value)


def version_id(value: str) -> str:
    """Check a version id."""
    return checked("a version id (<name>_v<version>_<run id>)", VERSION_ID, value)


def alias_name(value: str) -> str:
    """Check an alias."""
    return checked("an alias", ALIAS, value)


def file_path(value: str) -> str:
    """Check the path of a version's file: relative, no hidden or parent segments, none of the registry's own names."""
    checked("a file path", FILE, value)
    if value.split("/", maxsplit=1)[0] in {MANIFEST, VERIFICATIONS}:
        raise BadInputError(f"{value!r} is not a file path: the registry itself writes there")
    return value


def _for_pydantic(check):
    def validate(value: str) -> str:
        try:
            return check(value)
        except BadInputError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validate)


ModelName = Annotated[str, _for_pydantic(model_name)]
VersionId = Annotated[str, _for_pydantic(version_id)]
AliasName = Annotated[str, _for_pydantic(alias_name)]
FilePath = Annotated[str, _for_pydantic(file_path)]


@dataclass(frozen=True)
class BucketPath:
    """A bucket and the prefix under which the registry's layout begins.

    Attributes:
        bucket: the bucket's name.
        prefix: empty, or ends with a slash.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "BucketPath":
        """Read `gs://bucket[/prefix]`.

        Raises:
            BadInputError: it is anything else.
        """
        match = re.fullmatch(_BUCKET_PATH, uri)
        if not match or ".." in uri:
            raise BadInputError(f"{uri!r} is not a bucket path: it must be gs://<bucket> or gs://<bucket>/<prefix>")
        prefix = match["prefix"].lstrip("/")
        return cls(match["bucket"], f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}".rstrip("/")

    def version(self, model: str, version: str, name: str = "") -> str:
        """Object name of a version's file; of its folder, with the slash, without a file."""
        return f"{self.prefix}{model_name(model)}/{version_id(version)}/{name}"

    def alias(self, model: str, alias: str) -> str:
        """Object name of an alias."""
        return f"{self.prefix}{model_name(model)}/{ALIASES}/{alias_name(alias)}.json"
