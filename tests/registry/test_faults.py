"""Real processes, real faults: nothing is lost, nothing is half-done, and the message is one line."""

import contextlib
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from mlops_registry import Registry

from .conftest import MODEL, ORIGIN, VERSION, Emulator, Program, finished_training, kill
from .proxy import Action, Proxy

pytestmark = pytest.mark.whole


def test_a_bucket_that_fails_for_a_while_is_waited_for(
    task: Program, emulator: Emulator, registry: Registry, run_dir: Path
) -> None:
    # Each kind of failure, on the first upload, in the middle, and on the manifest; a lost answer is sent twice.
    trouble: dict[int, Action] = {0: "503", 1: "503", 2: "reset", 3: "lost", 6: "lost", 8: "503", 10: "lost"}
    with Proxy(emulator.address, lambda seen: trouble.get(seen.number, "pass") if seen.writes else "pass") as proxy:
        result = task.run("store", STORAGE_EMULATOR_HOST=proxy.address)
        assert (result.returncode, result.stderr) == (0, "")
        assert proxy.uploads > max(trouble)
        verified = task.run("verify", STORAGE_EMULATOR_HOST=proxy.address)
        assert (verified.returncode, verified.stderr) == (0, "")
    assert not run_dir.exists()
    assert [version.verified for version in registry.list()] == ["passed"]


def test_reads_wait_too(task: Program, emulator: Emulator) -> None:
    assert task.run("store").returncode == 0
    trouble: dict[int, Action] = {0: "503", 1: "reset", 4: "reset", 6: "503"}
    with Proxy(emulator.address, lambda seen: "pass" if seen.writes else trouble.get(seen.number, "pass")) as proxy:
        assert task.run("verify", STORAGE_EMULATOR_HOST=proxy.address).returncode == 0
        assert len(proxy.seen) > max(trouble)


def test_a_bucket_that_stays_away_ends_at_the_deadline_and_the_training_is_kept(
    task: Program, emulator: Emulator, run_dir: Path, registry: Registry
) -> None:
    with Proxy(emulator.address, lambda _: "503") as proxy:
        for command in ("store", "verify"):
            result = task.run(command, STORAGE_EMULATOR_HOST=proxy.address, MLOPS_REGISTRY_DEADLINE=2)
            assert (result.returncode, result.stdout) == (1, "")
            assert "did not answer for 2 s" in result.stderr
            assert len(result.stderr.splitlines()) == 1
            assert (run_dir / "training.json").exists()
    assert registry.list() == []
    assert task.run("store").returncode == 0


@pytest.mark.parametrize(("nth", "action"), [(0, "hold"), (2, "hold"), (2, "after"), (5, "hold")])
def test_a_store_killed_between_two_uploads_shows_nothing_and_can_be_repeated(
    task: Program, emulator: Emulator, registry: Registry, run_dir: Path, nth: int, action: Action
) -> None:
    with Proxy(emulator.address, lambda seen: action if seen.writes and seen.number == nth else "pass") as proxy:
        process = task.start("store", STORAGE_EMULATOR_HOST=proxy.address)
        proxy.wait_held()
        kill(process)
        assert registry.list() == []
        verified = task.run("verify", RUN_DIR=None)
        assert verified.returncode == 2
        assert "no version" in verified.stderr
    assert (run_dir / "training.json").exists()
    assert task.run("store").returncode == 0
    assert task.run("verify").returncode == 0
    assert [version.version_id for version in registry.list()] == [VERSION]


def test_a_store_killed_after_the_manifest_is_stored_and_can_be_repeated(
    task: Program, emulator: Emulator, registry: Registry, run_dir: Path
) -> None:
    with Proxy(emulator.address, lambda seen: "after" if seen.writes and seen.number == 5 else "pass") as proxy:
        process = task.start("store", STORAGE_EMULATOR_HOST=proxy.address)
        proxy.wait_held()
        kill(process)
    assert [version.version_id for version in registry.list()] == [VERSION]
    assert task.run("store").returncode == 0
    assert not run_dir.exists()
    assert task.run("verify").returncode == 0


def test_two_stores_of_the_same_bytes_at_once_both_succeed(
    task: Program, emulator: Emulator, registry: Registry, run_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy" / VERSION
    shutil.copytree(run_dir, copy)
    with Proxy(emulator.address, lambda seen: "hold" if seen.writes else "pass") as proxy:
        one = task.start("store", STORAGE_EMULATOR_HOST=proxy.address)
        two = task.start("store", STORAGE_EMULATOR_HOST=proxy.address, RUN_DIR=copy)
        proxy.wait_held(2)
        proxy.release()
        assert [process.communicate()[1] for process in (one, two)] == ["", ""]
        assert [one.returncode, two.returncode] == [0, 0]
    assert registry.verify(VERSION).passed


def test_of_two_stores_of_other_bytes_at_once_never_a_mixture_is_stored(
    task: Program, emulator: Emulator, registry: Registry, tmp_path: Path
) -> None:
    other = finished_training(tmp_path / "other" / VERSION, weight=0.25)
    with Proxy(emulator.address, lambda seen: "hold" if seen.writes and seen.number < 2 else "pass") as proxy:
        one = task.start("store", STORAGE_EMULATOR_HOST=proxy.address)
        two = task.start("store", STORAGE_EMULATOR_HOST=proxy.address, RUN_DIR=other)
        proxy.wait_held(2)
        proxy.release()
        outcomes = sorted((process.communicate()[1], process.returncode) for process in (one, two))
    losers = [(message, code) for message, code in outcomes if code != 0]
    assert losers
    for message, code in losers:
        assert code == 2
        assert "exists with other bytes" in message
    for version in registry.list():
        assert registry.verify(version.version_id).passed


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(
    program: Program, emulator: Emulator, registry: Registry, tmp_path: Path
) -> None:
    versions = [VERSION.replace("_v7_", f"_v{n}_") for n in (7, 8)]
    for number, version in enumerate(versions):
        _store(registry, version, finished_training(tmp_path / version, weight=number + 1.0))
        assert registry.verify(version).passed
    assert registry.promote(versions[0], "production").version_id == versions[0]
    with Proxy(emulator.address, lambda seen: "hold" if seen.writes else "pass") as proxy:
        processes = [
            program.start("promote", version, "production", STORAGE_EMULATOR_HOST=proxy.address) for version in versions
        ]
        proxy.wait_held(2)
        proxy.release()
        outcomes = {
            version: (process.communicate(), process.returncode)
            for version, process in zip(versions, processes, strict=True)
        }
    (winner,) = [version for version, (_, code) in outcomes.items() if code == 0]
    ((_, message), code) = next(outcome for version, outcome in outcomes.items() if version != winner)
    assert code == 1
    assert "moved by somebody else" in message
    assert len(message.splitlines()) == 1
    assert [alias.version_id for alias in registry.aliases()] == [winner]


def test_a_promotion_does_not_undo_one_made_while_it_checked(
    program: Program, emulator: Emulator, registry: Registry, tmp_path: Path
) -> None:
    versions = [VERSION.replace("_v7_", f"_v{n}_") for n in (7, 8)]
    for version in versions:
        _store(registry, version, finished_training(tmp_path / version))
        assert registry.verify(version).passed
    with Proxy(emulator.address, lambda seen: "hold" if "verifications" in seen.target else "pass") as proxy:
        process = program.start("promote", versions[0], "production", STORAGE_EMULATOR_HOST=proxy.address)
        proxy.wait_held()
        registry.promote(versions[1], "production")
        proxy.release()
        _, message = process.communicate()
    assert process.returncode == 1
    assert "moved by somebody else" in message
    assert [alias.version_id for alias in registry.aliases()] == [versions[1]]


def test_a_promotion_whose_answer_is_lost_has_won(
    program: Program, emulator: Emulator, registry: Registry, tmp_path: Path
) -> None:
    _store(registry, VERSION, finished_training(tmp_path / VERSION))
    assert registry.verify(VERSION).passed
    with Proxy(emulator.address, lambda seen: "lost" if seen.writes and seen.number == 0 else "pass") as proxy:
        result = program.run("promote", VERSION, "production", STORAGE_EMULATOR_HOST=proxy.address)
        assert (result.returncode, result.stderr) == (0, "")
        assert proxy.uploads == 2


def test_a_terminated_verification_leaves_nothing_on_disk(
    task: Program, emulator: Emulator, registry: Registry, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert task.run("store").returncode == 0
    for number in (signal.SIGTERM, signal.SIGINT):
        with Proxy(emulator.address, lambda seen: "hold" if "metrics.json" in seen.target else "pass") as proxy:
            process = task.start("verify", STORAGE_EMULATOR_HOST=proxy.address, TMPDIR=temporary)
            proxy.wait_held()
            assert list(temporary.iterdir())
            process.send_signal(number)
            _, message = process.communicate()
        assert process.returncode == 128 + number
        assert "Traceback" not in message
        assert list(temporary.iterdir()) == []
    assert registry.show(VERSION).verifications == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_store_that_is_told_to_end_leaves_what_clear_removes_and_store_takes_back(
    number: signal.Signals, task: Program, emulator: Emulator, run_dir: Path, tmp_path: Path
) -> None:
    def stopped() -> None:
        with Proxy(emulator.address, lambda seen: "hold" if seen.writes else "pass") as proxy:
            process = task.start("store", STORAGE_EMULATOR_HOST=proxy.address)
            proxy.wait_held()
            process.send_signal(number)
            _, message = process.communicate()
        assert process.returncode == 128 + number
        assert len(message.splitlines()) == 1

    copy = shutil.copytree(run_dir, tmp_path / "copy" / run_dir.name)
    stopped()
    assert task.run("clear").returncode == 0
    assert not run_dir.exists(), "its run was stopped"

    shutil.copytree(copy, run_dir)
    stopped()
    failed = task.run("store", STORAGE_EMULATOR_HOST="http://127.0.0.1:9", MLOPS_REGISTRY_DEADLINE="0.1")
    assert failed.returncode == 1
    assert task.run("clear").returncode == 0
    assert run_dir.exists(), "it was to be stored, and could not be"
    assert task.run("store").returncode == 0


def test_the_scorer_dies_with_a_killed_registry(task: Program, registry: Registry, tmp_path: Path) -> None:
    assert task.run("store").returncode == 0
    rows = tmp_path / "rows.jsonl"
    os.mkfifo(rows)  # a file that never ends
    process = task.start("predict", VERSION, str(rows))
    with rows.open("w") as writer:
        writer.write('{"x": 1}\n')
        writer.flush()
        children = _wait_for(lambda: _children(process.pid))
        kill(process)
    _wait_for(lambda: not any(_alive(child) for child in children))


def test_a_full_disk_is_one_line_and_says_nothing_about_the_version(
    task: Program, registry: Registry, tmp_path: Path
) -> None:
    assert task.run("store").returncode == 0
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # No file may grow beyond 512 bytes: the kernel refuses the write as it does on a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        process = task.start("verify", TMPDIR=temporary, PYTHONDONTWRITEBYTECODE=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert "make room" in stderr
    assert len(stderr.splitlines()) == 1
    assert list(temporary.iterdir()) == []
    assert registry.show(VERSION).verifications == ()


def _store(registry: Registry, version: str, run_dir: Path) -> None:
    registry.store(MODEL, version, run_dir, ORIGIN)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(condition):
    for _ in range(1200):
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError
