"""Making a version again: what to ask of its pipeline, and what of the outcome is another than it was.

Owns: from a manifest to a run's parameters, and the comparison of two manifests. Deliberately not: running, and going
back to the recorded code: a run uses the checkout as it is, so another code is told, not undone.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from .manifest import Manifest, Scalar

# A refit records the parameters of the trial that won, so one trial with these, from nothing, is what made the model.
_ASKED = {"trials": "1", "memoise": "false"}


class Difference(NamedTuple):
    """Something that was not as it is now, in words."""

    what: str
    was: str
    now: str


def request(manifest: Manifest, declared: Collection[str]) -> dict[str, str]:
    """Parameters of a run that should give the same model.

    Args:
        manifest: of the version.
        declared: parameters that its pipeline has now.
    """
    recorded = {**manifest.parameters, "model": manifest.model, "data_uri": manifest.data.uri, "seed": manifest.seed}
    values = {name: _text(value) for name, value in recorded.items() if name in declared and value is not None}
    return values | {name: value for name, value in _ASKED.items() if name in declared}


def differences(was: Manifest, now: Manifest) -> Iterator[Difference]:
    """What differs between a version and its reproduction, but the digest: what may explain that."""
    if was.code != now.code or was.code.dirty:
        yield Difference("code", _code(was), _code(now))
    for image in sorted(_images(was).keys() | _images(now).keys()):
        old, new = _images(was).get(image, "none"), _images(now).get(image, "none")
        if old != new:
            yield Difference(f"image {image}", old, new)
    if was.data.sha256 != now.data.sha256:
        yield Difference(
            "data", f"{was.data.sha256[:12]} of {was.data.rows} rows", f"{now.data.sha256[:12]} of {now.data.rows} rows"
        )
    for kind, old, new in (("tool", was.tools, now.tools), ("parameter", was.parameters, now.parameters)):
        for name in sorted(old.keys() | new.keys()):
            # Which trial of how many, and where the data is, decide nothing once the rest is the same.
            if old.get(name) != new.get(name) and name not in (*_ASKED, "trial", "seed", "data_url", "data_uri"):
                yield Difference(f"{kind} {name}", _text(old.get(name)), _text(new.get(name)))
    if was.seed != now.seed:
        yield Difference("seed", _text(was.seed), _text(now.seed))


def _images(manifest: Manifest) -> dict[str, str]:
    names = (image.rpartition(":") for image in manifest.images)
    return {name.rpartition("/")[2]: tag for name, _, tag in names}


def _code(manifest: Manifest) -> str:
    if manifest.code.commit is None:
        return "unknown"
    return manifest.code.commit[:12] + (" with uncommitted changes" if manifest.code.dirty else "")


def _text(value: Scalar) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
