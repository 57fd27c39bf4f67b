"""What a model that was planted in a bucket can do: nothing but answer, within limits."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlops_registry import BadInputError, IntegrityError, Registry, ScorerError, confinement
from mlops_registry.scorers import tfjs_layers
from mlops_registry.scorers.lines import score

from .conftest import MODEL, VERSION, Emulator, Program
from .proxy import Action, Proxy, Seen
from .test_use import _store

if why := confinement.problem():
    pytest.skip(f"nothing can be confined here: {why}", allow_module_level=True)

# Tells, as the label of its answer, what became of all that it tried.
SPY = """
const fs = require("fs"), net = require("net"), path = require("path"), model = process.argv[3];
const tried = (attempt) => { try { return String(attempt()); } catch (error) { return error.code; } };
const found = {
  environment: Object.keys(process.env).sort(),
  secret: tried(() => fs.readFileSync(SECRET)),
  passwd: tried(() => fs.readFileSync("/etc/passwd")),
  model: tried(() => fs.writeFileSync(path.join(model, "model.json"), "")),
  beside: tried(() => fs.readdirSync(path.dirname(model)).join(" ")),
  program: tried(() => fs.writeFileSync(__filename, "")),
  scratch: tried(() => fs.writeFileSync(path.join(process.env.TMPDIR, "x"), "")),
  cwd: process.cwd() === process.env.HOME,
  processes: fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)).length,
};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const socket = net.connect(JSON.parse(line).x, "127.0.0.1");
  const answer = (network) => {
    const label = JSON.stringify({ ...found, network });
    process.stdout.write(JSON.stringify({ prediction: 1, label }) + "\\n");
  };
  socket.on("connect", () => { answer("connected"); socket.end(); });
  socket.on("error", (error) => answer(error.code));
});
"""


@pytest.fixture
def stored(registry: Registry, tmp_path: Path) -> Registry:
    _store(registry, tmp_path / "training")
    return registry


def program_of(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> Path:
    """Put another program in place of the scorer."""
    (folder / "program/src").mkdir(parents=True)
    (folder / "program/src/main.js").write_text(source)
    monkeypatch.setenv("MLOPS_TENSORNODE", str(folder / "program"))
    return folder / "program/src/main.js"


def test_a_planted_program_finds_nothing_and_changes_nothing(
    emulator: Emulator, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, version = tmp_path / "secret", tmp_path / "version"
    secret.write_text("hunter2")
    (version / "model").mkdir(parents=True)
    (version / "model/model.json").write_text("{}")
    (version / "examples.json").write_text("{}")
    program = program_of(tmp_path, monkeypatch, SPY.replace("SECRET", json.dumps(str(secret))))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    (answer,) = score(tfjs_layers, version, [json.dumps({"x": urlsplit(emulator.address).port})])
    told = json.loads(str(answer.label))
    assert set(told.pop("environment")) <= {"PATH", "HOME", "TMPDIR", "PWD", "OLDPWD"}
    assert told.pop("processes") <= 2
    assert told == {
        "secret": "ENOENT",
        "passwd": "ENOENT",
        "model": "EROFS",
        "beside": "model",
        "program": "EROFS",
        "scratch": "undefined",
        "cwd": True,
        "network": "ECONNREFUSED",
    }
    assert program.read_text() != ""
    assert (version / "model/model.json").read_text() == "{}"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("source", "limit", "value"),
    [
        ("setInterval(() => {}, 1000)", "MLOPS_SCORER_SECONDS", "1"),
        ("for (;;);", "MLOPS_SCORER_CPU_SECONDS", "2"),
        ("const kept = []; for (;;) kept.push(Buffer.alloc(1 << 22, 1))", "MLOPS_SCORER_MEMORY_MB", "512"),
    ],
    ids=["wall time", "CPU time", "memory"],
)
def test_a_limit_that_is_hit_is_told_by_name_and_says_nothing_of_the_version(
    stored: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request, source: str, limit: str, value: str
) -> None:
    program_of(tmp_path, monkeypatch, source)
    monkeypatch.setenv(limit, value)
    for use in (lambda: stored.verify(VERSION), lambda: list(stored.predict(VERSION, [{"x": 1}]))):
        with pytest.raises(ScorerError) as stopped:
            use()
        assert request.node.callspec.id in str(stopped.value)
        assert limit in str(stopped.value)
        assert stopped.value.exit_code == 1
    assert stored.show(VERSION).verifications == ()


@pytest.mark.parametrize(
    "source",
    [
        "for (;;) require('fs').writeSync(1, 'x'.repeat(65536))",
        "for (;;) require('fs').writeSync(1, '{\"prediction\": 1}\\n')",
    ],
    ids=["one answer without end", "answers without end"],
)
def test_output_without_end_fails_the_version(
    stored: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    program_of(tmp_path, monkeypatch, source)
    verification = stored.verify(VERSION)
    assert not verification.passed
    assert "limit of output" in str(verification.message)


def test_complaints_without_end_are_not_kept(stored: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "for (let n = 0; n < 500; n++) require('fs').writeSync(2, 'x'.repeat(65536)); process.exit(2)"
    program_of(tmp_path, monkeypatch, source)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    verification = stored.verify(VERSION)
    assert not verification.passed
    assert len(str(verification.message)) <= 600
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e3"])
def test_a_limit_that_is_no_number_is_refused(stored: Registry, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MLOPS_SCORER_SECONDS", value)
    with pytest.raises(BadInputError, match="MLOPS_SCORER_SECONDS"):
        stored.verify(VERSION)


# A user namespace in which the kernel allows no further one: what a machine without them does.
_WITHOUT = ("unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"')


def without_namespaces(program: Program, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*_WITHOUT, "sh", sys.executable, "-m", "mlops_registry.main", *arguments]
    return subprocess.run(command, env=program.env(**environment), capture_output=True, text=True)


def test_where_nothing_can_be_confined_nothing_is_loaded_unless_allowed(
    task: Program, registry: Registry, tmp_path: Path
) -> None:
    assert task.run("store").returncode == 0
    version, scored = str(tmp_path / "version"), str(tmp_path / "scored")
    assert task.run("fetch", "--output", version).returncode == 0
    given = ("score", "--input", version, "--output", scored)
    for arguments in (given, ("verify",)):
        refused = without_namespaces(task, *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert len(refused.stderr.splitlines()) == 1
        assert "MLOPS_UNCONFINED" in refused.stderr
    assert registry.show(VERSION).verifications == ()
    allowed = without_namespaces(task, *given, MLOPS_UNCONFINED="allow")
    assert allowed.returncode == 0
    assert len(allowed.stderr.splitlines()) == 1
    assert "not confined" in allowed.stderr
    contained = without_namespaces(task, *given, MLOPS_CONFINEMENT="container")
    assert (contained.returncode, contained.stderr) == (0, "")
    other = task.run(*given, MLOPS_CONFINEMENT="none")
    assert other.returncode == 2
    assert "MLOPS_CONFINEMENT" in other.stderr


def test_an_object_without_end_is_not_read_to_its_end(
    stored: Registry, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rule(seen: Seen) -> Action:
        return "endless" if seen.method == "GET" and "weights.bin" in seen.target else "pass"

    with Proxy(emulator.address, rule) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        registry = Registry(str(stored.path))
        verification = registry.verify(VERSION)
        assert not verification.passed
        assert "its size is not the manifest's" in str(verification.message)
        with pytest.raises(IntegrityError, match="size"):
            list(registry.predict(VERSION, [{"x": 1}]))


def test_the_size_that_the_manifest_says_counts(stored: Registry, emulator: Emulator) -> None:
    name = stored.path.version(MODEL, VERSION, "manifest.json")
    found = stored.bucket.read(name)
    assert found
    manifest = json.loads(found[0])
    (weights,) = (file for file in manifest["files"] if file["path"] == "model/weights.bin")
    for size in (weights["size"] - 1, weights["size"] + 1):
        weights["size"] = size
        stored.bucket.replace(name, json.dumps(manifest).encode(), (stored.bucket.read(name) or (b"", 0))[1], {})
        verification = stored.verify(VERSION)
        assert not verification.passed
        assert "its size is not the manifest's" in str(verification.message)
