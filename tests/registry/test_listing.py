"""What a listing says after a copy that kept no metadata, or added some, and which aliases are followed."""

import json
from collections.abc import Callable

import pytest

from mlops_registry import (
    Alias,
    BadInputError,
    IntegrityError,
    NotVerifiedError,
    Registry,
    RegistryError,
    VersionSummary,
    names,
)
from mlops_registry.manifest import now

from .conftest import MODEL, VERSION, Emulator
from .proxy import Proxy
from .test_use import OTHER, _store


@pytest.fixture
def promoted(registry: Registry, tmp_path) -> Registry:
    """A registry of a verified, promoted version, and one that nobody has verified."""
    _store(registry, tmp_path)
    _store(registry, tmp_path, OTHER)
    registry.verify(VERSION)
    registry.promote(VERSION, "champion")
    return registry


def copy(registry: Registry, metadata: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    """Write each object anew, as a tool does that treats metadata in its own way."""
    bucket = registry.bucket.client.bucket(registry.path.bucket)
    for blob in list(bucket.list_blobs()):
        content, written = blob.download_as_bytes(), bucket.blob(blob.name)
        written.metadata = metadata(blob.metadata or {})
        blob.delete()
        written.upload_from_string(content, content_type="application/json")


def as_told(versions: list[VersionSummary]) -> list[tuple[str, str | None, tuple[str, ...], int | None]]:
    return [(one.version_id, one.verified, one.aliases, one.differing) for one in versions]


@pytest.mark.parametrize(
    "metadata",
    [
        lambda _: None,
        lambda was: {**was, "goog-reserved-file-mtime": "1750000000"},
        lambda was: dict(list(was.items())[:1]),
        lambda was: {name.upper(): value for name, value in was.items()},
    ],
    ids=["dropped", "added", "cut", "renamed"],
)
def test_a_copy_is_listed_as_its_original(promoted: Registry, metadata, caplog: pytest.LogCaptureFixture) -> None:
    before, aliases = promoted.list(), promoted.aliases()
    assert as_told(before) == [(VERSION, "passed", ("champion",), 0), (OTHER, None, (), None)]
    copy(promoted, metadata)
    assert promoted.list() == before
    assert promoted.aliases() == aliases
    assert promoted.show("champion").aliases == ("champion",)
    assert caplog.text == ""


def test_complete_metadata_takes_one_request(
    promoted: Registry, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(emulator.address) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        assert as_told(Registry(str(promoted.path)).list())[0][2] == ("champion",)
        assert len(proxy.seen) == 1


def test_only_what_lacks_metadata_is_read(
    promoted: Registry, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(promoted, promoted.path.alias(MODEL, "champion"), alias(), None)
    with Proxy(emulator.address) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        assert as_told(Registry(str(promoted.path)).list())[0][2] == ("champion",)
        assert len(proxy.seen) == 2
        assert "champion.json" in proxy.seen[1].target


def alias(**facts: str) -> bytes:
    values = {"model": MODEL, "alias": "champion", "version_id": VERSION, "promoted": now(), **facts}
    return Alias.model_validate(values).json_bytes()


def put(registry: Registry, name: str, content: bytes, metadata: dict[str, str] | None) -> None:
    """Write an object as somebody does who may write anything."""
    blob = registry.bucket.client.bucket(registry.path.bucket).blob(name)
    blob.metadata = metadata
    blob.upload_from_string(content, content_type="application/json")


@pytest.mark.parametrize("facts", [{"model": "other-model"}, {"alias": "candidate"}], ids=["model", "alias"])
@pytest.mark.parametrize("told", [True, False], ids=["metadata", "content"])
def test_an_alias_that_is_a_record_of_another_is_not_followed(
    promoted: Registry, facts: dict[str, str], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    content = alias(**facts)
    metadata = {**json.loads(content)} if told else None
    put(promoted, promoted.path.alias(MODEL, "champion"), content, metadata)
    not_followed(promoted, f"{MODEL}/champion", IntegrityError, "is not followed")
    assert as_told(promoted.list())[0][2] == ()
    assert "champion" in caplog.text
    promoted.promote(VERSION, "champion")
    assert promoted.show("champion").aliases == ("champion",)


def not_followed(registry: Registry, name: str, error: type[RegistryError], message: str) -> None:
    for use in (registry.show, registry.verify, lambda name: next(registry.predict(name, [{"x": 1}]))):
        with pytest.raises(error, match=message):
            use(name)


def test_an_alias_of_a_version_that_nobody_verified_is_not_followed(
    promoted: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    content = alias(version_id=OTHER)
    put(promoted, promoted.path.alias(MODEL, "champion"), content, json.loads(content))
    not_followed(promoted, "champion", NotVerifiedError, "is missing")
    assert [one[2] for one in as_told(promoted.list())] == [(), ()]
    assert "champion" in caplog.text


def test_an_alias_is_followed_until_its_version_fails(promoted: Registry, emulator: Emulator, bucket: str) -> None:
    weights = emulator.root / bucket / f"models/{MODEL}/{VERSION}/model/weights.bin"
    with weights.open("r+b") as file:
        file.write(b"\0")
    assert not promoted.verify("champion").passed
    not_followed(promoted, "champion", NotVerifiedError, "failed")
    assert promoted.show(VERSION).aliases == ()
    assert as_told(promoted.list())[0][1:3] == ("failed", ())


def test_another_versions_verification_proves_nothing(promoted: Registry, caplog: pytest.LogCaptureFixture) -> None:
    (verification,) = promoted.show(VERSION).verifications
    name = promoted.path.version(MODEL, OTHER, f"{names.VERIFICATIONS}/20990101T000000.000000Z.json")
    put(promoted, name, verification.json_bytes(), None)
    with pytest.raises(IntegrityError, match="is a verification of"):
        promoted.promote(OTHER, "champion")
    assert as_told(promoted.list())[1][:2] == (OTHER, "failed")
    assert OTHER in caplog.text


def test_metadata_cannot_say_that_a_version_was_verified(promoted: Registry) -> None:
    name = promoted.path.version(MODEL, OTHER, names.MANIFEST)
    manifest = promoted.show(OTHER).manifest
    more = {"verified": "passed", "differing": "0", "aliases": "x"}
    put(promoted, name, manifest.json_bytes(), {**manifest.summary(), **more})
    assert as_told(promoted.list())[1] == (OTHER, None, (), None)


def test_an_alias_in_two_models_needs_the_model(promoted: Registry) -> None:
    put(promoted, promoted.path.alias("other-model", "champion"), alias(model="other-model"), None)
    with pytest.raises(BadInputError, match="is ambiguous"):
        promoted.show("champion")
    assert promoted.show(f"{MODEL}/champion").manifest.version_id == VERSION
