"""Real faults on real processes: nothing is lost, nothing is half-done, nothing is trained twice under two names."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mlops

pytestmark = pytest.mark.whole

RUN = ("run", "sales-close-prediction", "-p", "model_version=1", "-p", "min_auc=0.3")
EMULATOR = ("fake-gcs-server", "-scheme")
"""On the bucket's command line, and not on those of the front before it and of what confines both."""


def _until(what: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def _processes(state: Path, *words: str) -> list[int]:
    """Processes that belong to a platform's state folder and whose command line has all the words."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            environment = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        # What becomes the task's process has the same words on its command line for a moment.
        if "launcher.py" in command:
            continue
        if str(state) in environment + command and all(word in command for word in words):
            found.append(int(folder.name))
    return found


def _detached(mlops: Mlops, *more: str) -> str:
    return mlops.json(*RUN, *more, "--detach")["runs"][0]


def _finished(mlops: Mlops, run: str) -> dict:
    return _until(lambda: (r := mlops.json("runs", "show", run))["status"] not in ("pending", "running") and r, 120)


def test_a_killed_training_starts_again_under_the_same_version_id(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=400")
    os.kill(_until(lambda: _processes(own_platform.state, "main.js", "train"))[0], signal.SIGKILL)
    done = _finished(own_platform, run)
    assert done["status"] == "complete"
    train = done["executions"][0]["steps"][0]
    assert train["restarts"] == 1
    versions = own_platform.json("models", "list")
    assert [v["version_id"] for v in versions] == [done["executions"][0]["version_id"]]
    assert versions[0]["verified"] == "passed"


def test_a_killed_store_goes_on_and_shows_nothing_before(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    # Stopped where it stands, so that the listing is looked at while it is between two uploads, then killed.
    store = _until(lambda: _processes(own_platform.state, "mlops-registry", "store"))[0]
    os.kill(store, signal.SIGSTOP)
    assert own_platform.json("models", "list") == []
    os.kill(store, signal.SIGKILL)
    done = _finished(own_platform, run)
    assert done["status"] == "complete"
    assert done["executions"][0]["steps"][1]["restarts"] == 1
    assert [v["verified"] for v in own_platform.json("models", "list")] == ["passed"]


def test_killing_the_command_harms_nothing(own_platform: Mlops) -> None:
    watching = subprocess.Popen(
        own_platform.argv(*RUN, "-p", "epochs=100"),
        env=own_platform.env(),
        cwd=own_platform.checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _until(lambda: _processes(own_platform.state, "main.js", "train"))
    watching.kill()
    watching.wait()
    run = own_platform.json("runs", "list")[0]["id"]
    assert _finished(own_platform, run)["status"] == "complete"


def test_killing_the_supervisor_ends_its_children_and_the_run_is_lost(own_platform: Mlops) -> None:
    supervisor = own_platform.json("up")["platform"]["pid"]
    run = _detached(own_platform, "-p", "epochs=1000")
    _until(lambda: _processes(own_platform.state, "main.js", "train"))
    os.kill(supervisor, signal.SIGKILL)
    _until(lambda: not _processes(own_platform.state), 15)

    assert own_platform("up").returncode == 0
    assert own_platform.json("runs", "show", run)["status"] == "lost"
    assert own_platform.json("models", "list") == []
    again = own_platform.json(*RUN, "-p", "epochs=1")
    assert [v["verified"] for v in again["versions"]] == ["passed"]


def test_a_bucket_that_dies_is_waited_for(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    store = _until(lambda: _processes(own_platform.state, "mlops-registry", "store"))[0]
    os.kill(store, signal.SIGSTOP)
    os.kill(_processes(own_platform.state, *EMULATOR)[0], signal.SIGKILL)
    os.kill(store, signal.SIGCONT)
    done = _finished(own_platform, run)
    assert done["status"] == "complete", done
    assert [v["verified"] for v in own_platform.json("models", "list")] == ["passed"]


def test_a_stopped_run_stores_nothing(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1000")
    _until(lambda: _processes(own_platform.state, "main.js", "train"))
    assert own_platform("runs", "stop", run).returncode == 0
    assert _finished(own_platform, run)["status"] == "stopped"
    assert own_platform.json("models", "list") == []
    assert list((own_platform.state / "volumes" / "models").iterdir()) == []


def _pause(mlops: Mlops, *words: str) -> int:
    """Stop a process where it stands, as soon as there is one; its id."""
    process = _until(lambda: _processes(mlops.state, *words))[0]
    os.kill(process, signal.SIGSTOP)
    return process


def _left(mlops: Mlops) -> list[Path]:
    return list((mlops.state / "volumes" / "models").iterdir())


def _steps(run: dict) -> dict:
    return {step["name"]: step for step in run["executions"][0]["steps"]}


def test_a_killed_scoring_starts_again(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    os.kill(_pause(own_platform, "mlops-registry", "score"), signal.SIGKILL)
    done = _finished(own_platform, run)
    assert done["status"] == "complete", done
    assert _steps(done)["verify"]["restarts"] == 1
    assert [v["verified"] for v in own_platform.json("models", "list")] == ["passed"]


def test_a_store_killed_while_it_waits_for_the_scoring_goes_on(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    scoring = _pause(own_platform, "mlops-registry", "score")
    # What it waits for lies there: it has stored and fetched, and waits now.
    allocation = own_platform.state / "allocs" / own_platform.json("runs", "show", run)["executions"][0]["id"]
    _until((allocation / "alloc/data/version/request.json").exists)
    os.kill(_processes(own_platform.state, "mlops-registry", "store")[0], signal.SIGKILL)
    os.kill(scoring, signal.SIGCONT)
    done = _finished(own_platform, run)
    assert done["status"] == "complete", done
    assert _steps(done)["store"]["restarts"] == 1
    (version,) = own_platform.json("models", "list")
    assert version["verified"] == "passed"
    assert len(own_platform.json("models", "show", version["version_id"])["verifications"]) == 1
    assert _left(own_platform) == []


def test_a_scoring_that_cannot_be_tried_fails_the_run_and_leaves_the_version_unverified(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    scoring = _pause(own_platform, "mlops-registry", "score")
    allocation = own_platform.state / "allocs" / own_platform.json("runs", "show", run)["executions"][0]["id"]
    _until((allocation / "alloc/data/version/request.json").exists)
    (allocation / "alloc/data/scored").write_text("where a folder is wanted")
    os.kill(scoring, signal.SIGCONT)
    done = _finished(own_platform, run)
    assert done["status"] == "failed"
    assert [name for name, step in _steps(done).items() if step["failed"]] == ["verify"]
    assert [v["verified"] for v in own_platform.json("models", "list")] == [None]
    assert _left(own_platform) == []


def test_a_run_that_is_stopped_while_it_stores_leaves_nothing(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    # Its upload is never answered.
    bucket = _pause(own_platform, *EMULATOR)
    try:
        store = _until(lambda: _processes(own_platform.state, "mlops-registry", "store"))[0]
        # Past the loading of libraries: it talks to the bucket.
        _until(lambda: _connected(store))
        assert own_platform("runs", "stop", run).returncode == 0
        done = _finished(own_platform, run)
    finally:
        os.kill(bucket, signal.SIGCONT)
    assert done["status"] == "stopped"
    said = own_platform("runs", "logs", run, "--task", "store", "--stream", "stderr").stdout
    assert "defect" not in said
    assert "Traceback" not in said
    assert _left(own_platform) == []
    assert own_platform.json("models", "list") == []


def _connected(process: int) -> bool:
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed by now
            if str(descriptor.readlink()).startswith("socket:"):
                return True
    return False


def test_a_run_that_is_stopped_while_it_verifies_keeps_what_it_stored_and_no_more(own_platform: Mlops) -> None:
    run = _detached(own_platform, "-p", "epochs=1")
    scoring = _pause(own_platform, "mlops-registry", "score")
    _until(lambda: own_platform.json("models", "list"))
    assert own_platform("runs", "stop", run).returncode == 0
    os.kill(scoring, signal.SIGCONT)
    assert _finished(own_platform, run)["status"] == "stopped"
    assert [v["verified"] for v in own_platform.json("models", "list")] == [None]
    assert _left(own_platform) == []


def test_a_token_whose_run_was_lost_starts_it_again(own_platform: Mlops) -> None:
    arguments = [*RUN, "-p", "epochs=1", "--idempotency-token", "t"]
    lost = own_platform.json(*RUN, "-p", "epochs=1000", "--idempotency-token", "t", "--detach")["runs"][0]
    _until(lambda: _processes(own_platform.state, "main.js", "train"))
    assert own_platform("down").returncode == 0
    assert own_platform("up").returncode == 0
    first, second = own_platform.json(*arguments), own_platform.json(*arguments)
    assert first["runs"][0]["status"] == "complete"
    assert first["runs"][0]["id"] == second["runs"][0]["id"] != lost
