"""The state folder and its locks: this user's own, nobody else's to write, and no link is followed."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.engines.embedded import platform, private
from mlops.engines.embedded.images import Images
from mlops.engines.embedded.platform import UnsafeError
from mlops.engines.embedded.tasks import Processes
from tests.conftest import Mlops
from tests.embedded.conftest import Engine, alive, eventually

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
UNSAFE_FILES = ("up.lock", "supervisor.log", "platform.json")
OPENED_BY_THE_SUPERVISOR = ("supervisor.lock", "platform.json.new", "bucket.log")


def mode(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_that_others_could_read_is_closed_and_used(tmp_path: Path, checkout: Path) -> None:
    """As an earlier version, or a person, made it."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    engine = Engine(state, checkout)
    try:
        assert mode(state) == 0o700
        assert {mode(state / name) & 0o077 for name in ("up.lock", "supervisor.lock", "platform.json")} == {0}
        assert platform.find(state) == engine.platform
    finally:
        platform.down(state)


@pytest.mark.parametrize("writable", [0o777, 0o770, 0o722, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, checkout: Path, writable: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(writable)
    with pytest.raises(UnsafeError, match=r"others? users? may write") as caught:
        platform.up(state, checkout=checkout, feed=False)
    assert "\n" not in str(caught.value)
    assert list(state.iterdir()) == []
    done = Mlops(state)("runs", "list")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@AS_ROOT
@pytest.mark.parametrize("linked", [False, True])
def test_another_users_folder_is_refused(tmp_path: Path, checkout: Path, *, linked: bool) -> None:
    state, other = tmp_path / "state", tmp_path / "other"
    other.mkdir(mode=0o700)
    if linked:  # another user's link, to a folder of one's own
        state.symlink_to(other)
        os.lchown(state, 65534, 65534)
    else:
        other.rename(state)
        os.chown(state, 65534, 65534)
    with pytest.raises(UnsafeError, match="another user"):
        platform.up(state, checkout=checkout, feed=False)
    with pytest.raises(UnsafeError, match="another user"):
        platform.find(state)
    assert list(state.iterdir()) == []


def test_a_link_of_ones_own_to_a_larger_disk_is_followed(tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    Engine(tmp_path / "state", checkout)
    assert platform.down(tmp_path / "state")


@pytest.mark.parametrize("name", [*UNSAFE_FILES, *OPENED_BY_THE_SUPERVISOR])
def test_a_link_in_the_folder_is_not_followed(tmp_path: Path, checkout: Path, name: str) -> None:
    state, victim = tmp_path / "state", tmp_path / "victim"
    state.mkdir(mode=0o700)
    victim.write_text("not emptied, not written")
    (state / name).symlink_to(victim)
    with pytest.raises(UnsafeError, match="link"):
        platform.up(state, checkout=checkout, feed=False)
    assert victim.read_text() == "not emptied, not written"
    if name in OPENED_BY_THE_SUPERVISOR:
        assert platform.find(state) is None


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with private.locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError), private.locked(tmp_path / "lock", wait=False):
            pass
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError), private.locked(tmp_path / "pipe"):  # and does not wait for a writer  # noqa: PT011
            pass
    with private.locked(tmp_path / "lock", wait=False):
        pass


def test_images_are_locked_in_the_checkout_and_not_where_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user could have put a link to one of this user's files where the lock's name can be guessed."""
    import asyncio

    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    victim.write_text("not emptied")
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    folder = tmp_path / "checkout" / "images" / "x"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM a\n")
    (folder / "package.json").write_text('{"name": "x", "version": "1.0.0"}')
    (folder / "package-lock.json").write_text(
        '{"name": "x", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {"": {"name": "x"}}}'
    )

    async def prepare() -> None:
        processes, images = Processes(), Images(tmp_path / "checkout", lambda *_: "h")
        await images.prepare(await images.resolve("r/x:h"), processes, tmp_path / "log", lambda _: None)
        await processes.close(1)

    asyncio.run(prepare())
    assert list(shared.iterdir()) == []
    (lock,) = (tmp_path / "checkout" / ".cache" / "locks").iterdir()
    lock.unlink()
    lock.symlink_to(victim)
    shutil.rmtree(folder / "node_modules", ignore_errors=True)
    with pytest.raises(OSError, match="link"):
        asyncio.run(prepare())
    assert victim.read_text() == "not emptied"


def _left(state: Path) -> list[int]:
    """Processes whose command line names a state folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(state).encode() in words and alive(int(entry.name)):
            found.append(int(entry.name))
    return found


UP = """
import sys
from pathlib import Path
from mlops.engines.embedded import platform
def told(text):
    print(text, flush=True)
platform.up(Path(sys.argv[1]), ["models"], checkout=Path(sys.argv[2]), feed=False, progress=told)
"""


@pytest.mark.whole
def test_an_interrupted_start_leaves_nothing_behind(tmp_path: Path, checkout: Path) -> None:
    state = tmp_path / "state"
    # Its output is small enough for the pipe, and the folder's name is not in its own command line.
    starting = subprocess.Popen(
        [sys.executable, "-c", UP, os.path.relpath(state, tmp_path), str(checkout)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert starting.stdout
    assert starting.stdout.readline()  # the supervisor runs and has said what it does first
    os.kill(starting.pid, signal.SIGINT)
    _, errors = starting.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    assert _left(state) == []
    assert platform.find(state) is None


@pytest.mark.whole
def test_an_interrupted_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the platform runs already, and what stack `local` registers is being registered."""
    mlops = Mlops(tmp_path / "state")
    starting = subprocess.Popen(
        mlops.argv("up"), env=mlops.env(), cwd=mlops.checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    eventually((mlops.state / "platform.json").exists, "the start of the platform")
    os.kill(starting.pid, signal.SIGINT)
    _, errors = starting.communicate(timeout=300)
    assert (starting.returncode, errors) == (130, b"")
    assert _left(mlops.state) == []
    assert platform.find(mlops.state) is None


@pytest.mark.whole
def test_an_interrupted_stop_ends_it_all_the_same(tmp_path: Path, checkout: Path) -> None:
    state = tmp_path / "state"
    engine = Engine(state, checkout)
    os.kill(engine.platform.pid, signal.SIGSTOP)  # so that `down` waits
    script = "import sys\nfrom pathlib import Path\nfrom mlops.engines.embedded import platform\nprint(1, flush=True)\n"
    stopping = subprocess.Popen(
        [sys.executable, "-c", f"{script}platform.down(Path(sys.argv[1]))", str(state)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    pending = Path(f"/proc/{engine.platform.pid}/status")
    term = 1 << (signal.SIGTERM - 1)
    eventually(
        lambda: any(
            int(line.split()[1], 16) & term for line in pending.read_text().splitlines() if line.startswith("ShdPnd")
        ),
        "the signal of `down`",
    )
    os.kill(stopping.pid, signal.SIGINT)
    stopping.communicate(timeout=120)
    os.kill(engine.platform.pid, signal.SIGCONT)
    eventually(lambda: _left(state) == [], "the end of all of it")
