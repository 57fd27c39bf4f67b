"""Real kills, real crashes, a really full disk: what can be kept is kept, nothing stays behind, everything is said."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from mlops.engines.embedded import platform
from mlops.engines.embedded.platform import PlatformError
from tests.embedded.conftest import Engine, alive, events, eventually, job, task

pytestmark = pytest.mark.whole


def _pids(file: Path, count: int) -> list[int]:
    def written() -> list[int]:
        pids = [int(pid) for pid in file.read_text().split()] if file.exists() else []
        return pids if len(pids) == count else []

    return eventually(written, "the task's start")


def _family(file: Path) -> str:
    """A task with a child, and a grandchild that leaves its session."""
    return (
        f"echo $$ >> {file}; sleep 1000 & echo $! >> {file}; setsid sh -c 'echo $$ >> {file}; sleep 1000; true' & wait"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_supervisors_end_ends_its_runs(own: Engine, tmp_path: Path, number: int) -> None:
    pids = tmp_path / "pids"
    own.register(job("lost", task("main", _family(pids)), task("after", f"touch {tmp_path}/after", hook="poststop")))
    done = own.dispatch(own.register(job("done", task("main", "true"))))
    own.finished(done)
    run = own.dispatch("lost", {}, "first")
    family = _pids(pids, 3)
    bucket = int(urlsplit(own.platform.storage_address).port or 0)
    os.kill(own.platform.pid, number)
    eventually(lambda: not any(map(alive, family)), "the end of the run's processes")
    eventually(lambda: not _listens(bucket), "the end of the bucket")
    eventually(lambda: platform.find(own.state) is None, "the end of the supervisor")

    again = Engine(own.state, own.checkout)
    (allocation,) = again.allocations(run)
    assert allocation["ClientStatus"] == "lost"
    assert again.get(f"/v1/job/{run}")["Status"] == "dead"
    assert again.allocations(done)[0]["ClientStatus"] == "complete"
    assert not (tmp_path / "after").exists()
    pids.unlink()
    second = again.dispatch("lost")
    assert second != run
    _pids(pids, 3)
    requests.delete(again.url(f"/v1/job/{second}"), timeout=30)
    again.finished(second)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_killed_watchdog_is_replaced(own: Engine, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    own.dispatch(own.register(job("guarded", task("main", _family(pids)))))
    family = _pids(pids, 3)
    (first,) = _children(own, "watchdog.py")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: _children(own, "watchdog.py") not in ([], [first]), "another watchdog")
    own.get("/v1/jobs")  # answered only when the supervisor has told the new one what lives
    os.kill(own.platform.pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, family)), "the end of the run's processes")


def test_a_killed_launcher_is_replaced_and_what_it_started_goes_on(own: Engine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    source = job("on", task("main", f"until [ -e {go} ]; do sleep 0.05; done"), task("after", "true", hook="poststop"))
    run = own.dispatch(own.register(source))
    eventually(lambda: own.allocations(run)[0]["TaskStates"]["main"]["State"] == "running", "the task's start")
    (launcher,) = _children(own, "launcher.py")
    os.kill(launcher, signal.SIGKILL)
    eventually(lambda: not alive(launcher), "the launcher's end")
    go.touch()
    (allocation,) = own.finished(run)
    assert allocation["ClientStatus"] == "complete"
    assert events(allocation, "after")[-1] == "Terminated"


def test_tasks_die_with_the_supervisor_even_without_the_watchdog(own: Engine, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    own.dispatch(own.register(job("alone", task("main", _family(pids)))))
    family = _pids(pids, 3)
    (watchdog,) = _children(own, "watchdog.py")
    os.kill(watchdog, signal.SIGSTOP)
    os.kill(own.platform.pid, signal.SIGKILL)
    try:
        eventually(lambda: not alive(family[0]), "the end of the task's process")
    finally:
        os.kill(watchdog, signal.SIGCONT)
    eventually(lambda: not any(map(alive, family)), "the end of the others")


def _children(engine: Engine, word: str) -> list[int]:
    """The supervisor's own processes whose command line has a word."""
    pid = engine.platform.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if word in _command_line(child)]


def _command_line(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose platform does not outlive the test."""
    yield tmp_path / "state"
    platform.down(tmp_path / "state")


def test_killing_the_client_harms_nothing(state: Path, checkout: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom mlops.engines.embedded import"
        f" platform\nplatform.up(Path({str(state)!r}), checkout=Path({str(checkout)!r}), feed=False)\nprint('up',"
        " flush=True)\ntime.sleep(1000)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert client.stdout
    assert client.stdout.readline() == b"up\n"
    found = platform.find(state)
    engine = Engine(state, checkout)
    run = engine.dispatch(engine.register(job("goes-on", task("main", "sleep 0.5; echo done"))))
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    client.stdout.close()
    assert engine.log(engine.finished(run)[0], "main") == "done\n"
    assert platform.find(state) == found
    assert platform.down(state)
    assert not platform.down(state)


def test_two_clients_start_one_supervisor(state: Path, checkout: Path) -> None:
    script = (
        "from pathlib import Path\nfrom mlops.engines.embedded import platform\n"
        f"print(platform.up(Path({str(state)!r}), ['models'], checkout=Path({str(checkout)!r}), feed=False).pid)\n"
    )
    clients = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {client.communicate()[0].strip() for client in clients}
    assert [client.returncode for client in clients] == [0, 0, 0]
    assert len(pids) == 1
    assert platform.down(state)


def test_buckets_are_made_once_and_kept(own: Engine) -> None:
    platform.up(own.state, ["models", "data"], checkout=own.checkout, feed=False)
    platform.up(own.state, ["models"], checkout=own.checkout, feed=False)
    with pytest.raises(PlatformError, match=r"^bucket \"x\" cannot be made: .*invalid bucket name") as caught:
        platform.up(own.state, ["x"], checkout=own.checkout, feed=False)
    assert "\n" not in str(caught.value)
    url = own.platform.storage_address
    assert requests.post(f"{url}/upload/storage/v1/b/models/o?uploadType=media&name=x", data=b"kept", timeout=30).ok
    platform.down(own.state)
    again = Engine(own.state, own.checkout)
    assert (
        requests.get(f"{again.platform.storage_address}/storage/v1/b/models/o/x?alt=media", timeout=30).content
        == b"kept"
    )


def test_a_bucket_that_dies_comes_back_on_its_port(own: Engine) -> None:
    platform.up(own.state, ["models"], checkout=own.checkout, feed=False)
    url = own.platform.storage_address
    (bucket,) = _children(own, "fake-gcs-server")
    os.kill(bucket, signal.SIGKILL)

    def back() -> bool:
        try:
            return not alive(bucket) and requests.get(f"{url}/storage/v1/b/models", timeout=30).ok
        except requests.ConnectionError:
            return False

    eventually(back, "the bucket again")
    assert "the bucket ended" in (own.state / "supervisor.log").read_text()


def test_another_checkout_is_refused(own: Engine, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="serves another checkout"):
        platform.up(own.state, checkout=tmp_path, feed=False)


def test_what_keeps_it_from_starting_is_said_in_one_line(tmp_path: Path, checkout: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "state.db").write_text("this is no database, and longer than a header would be" * 10)
    with pytest.raises(PlatformError, match=r"does not start: .*state\.db.*; its log is .*supervisor\.log") as caught:
        platform.up(state, checkout=checkout, feed=False)
    assert "\n" not in str(caught.value)
    assert platform.find(state) is None
    (state / "state.db").unlink()
    (state / "bucket").write_text("not a folder")
    with pytest.raises(PlatformError, match="does not start"):
        platform.up(state, checkout=checkout, feed=False)
    with pytest.raises(PlatformError, match=r"the data set .* is missing"):
        platform.up(tmp_path / "other", checkout=checkout)
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="cannot use the state folder"):
        platform.up(tmp_path / "file" / "state", checkout=checkout, feed=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=1000", "tmpfs", str(place)], capture_output=True
    ).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_said_and_harms_nothing(small_disk: Path, checkout: Path, tmp_path: Path) -> None:
    engine = Engine(small_disk / "state", checkout)
    go = tmp_path / "go"
    try:
        engine.register(job("before", task("main", "echo x")))
        done = engine.dispatch("before")
        engine.finished(done)
        engine.register(
            job(
                "during",
                task("main", f"while [ ! -e {go} ]; do sleep 0.05; done"),
                task("after", "true", hook="poststop"),
            )
        )
        during = engine.dispatch("during")
        eventually(lambda: engine.allocations(during)[0]["TaskStates"]["main"]["State"] == "running", "the start")
        filler = small_disk / "filler"
        filler.mkdir()
        _fill(filler)
        refused = [requests.post(engine.url("/v1/job/before/dispatch"), json={}, timeout=30) for _ in range(20)]
        assert {answer.status_code for answer in refused} == {507}
        assert "free space" in refused[0].text
        assert "\n" not in refused[0].text
        go.touch()
        eventually(
            lambda: engine.allocations(during)[0]["ClientStatus"] == "failed", "the failure of what could not be set up"
        )
        (allocation,) = engine.allocations(during)
        assert "No space left on device" in allocation["TaskStates"]["after"]["Events"][-2]["DisplayMessage"]
        shutil.rmtree(filler)
        engine.finished(during)
        engine.finished(engine.dispatch("before"))
        eventually(lambda: _stored(small_disk / "state" / "state.db", during), "the outcome on disk")
    finally:
        platform.down(engine.state)
    again = Engine(small_disk / "state", checkout)
    try:
        assert again.allocations(during)[0]["ClientStatus"] == "failed"
        assert again.allocations(done)[0]["ClientStatus"] == "complete"
    finally:
        platform.down(again.state)


def _fill(folder: Path) -> None:
    """Until there is room for neither bytes nor files."""
    with contextlib.suppress(OSError), (folder / "bytes").open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 512)
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (folder / str(number)).touch()
    assert os.statvfs(folder).f_bavail == os.statvfs(folder).f_ffree == 0


def _stored(database: Path, run: str) -> bool:
    with sqlite3.connect(database) as db:
        return bool(
            db.execute("SELECT 1 FROM document WHERE kind = 'run' AND id = ? AND NOT unfinished", (run,)).fetchall()
        )
