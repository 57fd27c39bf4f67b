"""What a listing says of versions, verifications and aliases: what their objects' custom metadata say.

Owns when that is not enough: a tool that copies a bucket may leave metadata out, or add some of its own. What lacks
some is read itself, and only that, so that listing a bucket as the registry wrote it takes one request.
"""

import collections
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from . import names
from .bucket import Bucket, Stored
from .errors import BadInputError, IntegrityError
from .manifest import Alias, AnyRecord, VersionSummary, validated
from .records import Records

_LAYOUT = re.compile(
    rf"(?P<model>{names.MODEL})/(?:{names.ALIASES}/(?P<alias>{names.ALIAS})\.json"
    rf"|(?P<version>{names.VERSION_ID})/(?:{re.escape(names.MANIFEST)}|{names.VERIFICATIONS}/(?P<time>{names.TIME})\.json))"
)
_UNVERIFIED: dict[str, Any] = dict.fromkeys(("verified", "verified_at", "examples", "differing"))
_Key = tuple[str, str]
_log = logging.getLogger("mlops_registry")


class Listing:
    """One listing of all models, or of one.

    Args:
        bucket: where.
        path: of the models.
        records: for what has to be read.
        model: None for all.
        versions: whether versions are asked for, or only what aliases mean.
    """

    def __init__(self, bucket: Bucket, path: names.BucketPath, records: Records, model: str | None, *, versions: bool):
        self._records = records
        self._manifests: dict[_Key, Stored] = {}
        self._verifications: dict[_Key, tuple[str, Stored]] = {}
        self._aliases: dict[_Key, Stored] = {}
        self._verdicts: dict[_Key, dict[str, Any]] = {}
        folder = path.prefix + (f"{names.model_name(model)}/" if model else "*/")
        wanted = [f"*/{names.MANIFEST}"] * versions + [f"*/{names.VERIFICATIONS}/*.json", f"{names.ALIASES}/*.json"]
        for item in bucket.entries(folder.partition("*")[0], f"{folder}{{{','.join(wanted)}}}"):
            # A server may ignore the glob.
            if match := _LAYOUT.fullmatch(item.name, len(path.prefix)):
                self._sort(match, item)

    def versions(self) -> list[VersionSummary]:
        """The versions, by model and age, oldest first."""
        pointing = collections.defaultdict(list)
        for alias in self.aliases():
            pointing[alias.model, alias.version_id].append(alias.alias)
        found = []
        for key, item in self._manifests.items():
            known = {"model": key[0], "version_id": key[1], "aliases": tuple(pointing[key]), **self._verdict(key)}
            try:
                summary = _told(VersionSummary, item, known)
                if summary is None:
                    facts = self._records.manifest(*key).summary()
                    summary = validated(VersionSummary, facts | known, f"the manifest of {key[1]}")
                found.append(summary)
            except (BadInputError, IntegrityError) as error:
                _log.warning("version %s/%s is left out of the list: %s", *key, error)
        return sorted(found, key=lambda version: (version.model, version.created, version.version_id))

    def aliases(self) -> list[Alias]:
        """The aliases that are followed, by model and name."""
        return sorted(self._followed(), key=lambda alias: (alias.model, alias.alias))

    def _sort(self, match: re.Match[str], item: Stored) -> None:
        if match["alias"]:
            self._aliases[match["model"], match["alias"]] = item
            return
        key = match["model"], match["version"]
        if match["time"]:
            # Of one length and form, so that the newest is the greatest.
            self._verifications[key] = max(self._verifications.get(key, ("", item)), (match["time"], item), key=_first)
        else:
            self._manifests[key] = item

    def _followed(self) -> Iterator[Alias]:
        for key, item in self._aliases.items():
            try:
                # Metadata of before it said whose it is have to be looked behind.
                alias = _told(Alias, item, {}) or self._records.alias(*key)
                if alias is None:
                    continue
                if (alias.model, alias.alias) != key:
                    raise IntegrityError(f"it is a record of {alias.model}/{alias.alias}")
                if self._verdict((alias.model, alias.version_id))["verified"] != "passed":
                    raise IntegrityError(f"{alias.version_id} has no newest verification that passed")
                yield alias
            except (BadInputError, IntegrityError) as error:
                _log.warning("alias %s/%s is left out, as it is not followed: %s", *key, error)

    def _verdict(self, key: _Key) -> dict[str, Any]:
        """What a version's newest verification says of it."""
        if key in self._verdicts or key not in self._verifications:
            return self._verdicts.get(key, _UNVERIFIED)
        time, item = self._verifications[key]
        facts = item.metadata
        if facts.get("passed") not in ("true", "false") or "examples" not in facts:
            try:
                found = self._records.verification(*key, item.name)
                facts = found.summary() if found else {}
            except (BadInputError, IntegrityError) as error:
                _log.warning("the newest verification of %s/%s counts as failed: %s", *key, error)
                facts = {}
        verified = "passed" if facts.get("passed") == "true" else "failed"
        counts = {name: facts.get(name) for name in ("examples", "differing")}
        self._verdicts[key] = {"verified": verified, "verified_at": datetime.fromisoformat(time), **counts}
        return self._verdicts[key]


def _first(pair: tuple[str, Stored]) -> str:
    return pair[0]


def _told(record: type[AnyRecord], item: Stored, known: dict[str, Any]) -> AnyRecord | None:
    """A record as its object's metadata tell it; None if they do not."""
    facts = {name: value for name, value in item.metadata.items() if name in record.model_fields}
    try:
        return validated(record, facts | known, "its metadata")
    except BadInputError:
        return None
