"""The parts that know no engine: images as processes, the queue for the machine, what is remembered."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.engines.embedded.errors import EmbeddedError, StorageError
from mlops.engines.embedded.images import Image, Images
from mlops.engines.embedded.scheduler import Place, Resources, Scheduler
from mlops.engines.embedded.state import Store
from mlops.engines.embedded.tasks import Command, Processes


def _image(root: Path, dockerfile: str, **files: str) -> Image:
    folder = root / "images" / "x"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (folder / name.replace("__", "-").replace("_", ".")).write_text(text)
    return asyncio.run(Images(root, lambda *_: "h").resolve("r.example:5000/p/x:h"))


def test_a_dockerfile_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    image = _image(
        tmp_path,
        'FROM a\nENV LOST=1\nCMD ["lost"]\nFROM b\nWORKDIR /app\nENV A=1 B="two words" \\\n    # said\n   '
        ' C=/app/c\nENV PATH=/app/bin:$PATH D=/application\nENTRYPOINT ["/app/run", "src/main.js"]\nCMD ["--flag"]\n',
    )
    assert image.entrypoint == (f"{image.folder}/run", "src/main.js")
    assert image.cmd == ("--flag",)
    assert dict(image.env) == {"A": "1", "B": "two words", "C": f"{image.folder}/c", "D": "/application"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ENTRYPOINT node main.js", "ENTRYPOINT is not in exec form"),
        ("CMD node main.js", "CMD is not in exec form"),
        ("ENV KEY value", "write ENV KEY=value"),
        ("ENV KEY=$OTHER", "refers to another variable"),
    ],
)
def test_a_dockerfile_that_cannot_be_followed_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(EmbeddedError, match=message):
        _image(tmp_path, f"FROM a\n{line}\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r/x:other", "has changed since"),
        ("r/nothing:h", "no images/nothing/Dockerfile"),
        ("x", "is not <repository>"),
    ],
)
def test_a_name_that_fits_no_code_is_refused(tmp_path: Path, name: str, message: str) -> None:
    _image(tmp_path, "FROM a\n")
    with pytest.raises(EmbeddedError, match=message):
        asyncio.run(Images(tmp_path, lambda *_: "h").resolve(name))


def test_the_folder_of_an_image_is_the_last_part_of_its_name_alone(tmp_path: Path) -> None:
    _image(tmp_path, "FROM a\n")
    image = asyncio.run(Images(tmp_path, lambda *_: "h").resolve("r/../x:h"))
    assert image.folder == tmp_path / "images" / "x"


def _prepared(image: Image, root: Path, times: int = 1) -> list[str]:
    """Prepare an image, several times at once; what was said."""
    said: list[str] = []

    async def prepare() -> None:
        processes, images = Processes(), Images(root, lambda *_: "h")
        await asyncio.gather(*(images.prepare(image, processes, root / "log", said.append) for _ in range(times)))
        await processes.close(1)

    asyncio.run(prepare())
    return said


def test_node_packages_are_installed_when_the_lock_file_changed(tmp_path: Path) -> None:
    package = {"name": "x", "version": "1.0.0", "dependencies": {"lib": "file:lib"}}
    lock = {
        "name": "x",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "requires": True,
        "packages": {"": package, "lib": {"version": "1.0.0"}, "node_modules/lib": {"resolved": "lib", "link": True}},
    }
    image = _image(tmp_path, "FROM a\n", package_json=json.dumps(package), package__lock_json=json.dumps(lock))
    (image.folder / "lib").mkdir()
    (image.folder / "lib" / "package.json").write_text('{"name": "lib", "version": "1.0.0"}')
    assert image.path == (image.folder / "node_modules" / ".bin",)
    assert _prepared(image, tmp_path, times=3) == ["npm ci in images/x"]
    assert (image.folder / "node_modules" / "lib" / "package.json").exists()
    assert _prepared(image, tmp_path) == []
    lock["packages"]["lib"]["version"] = "1.0.1"
    (image.folder / "lib" / "package.json").write_text('{"name": "lib", "version": "1.0.1"}')
    (image.folder / "package-lock.json").write_text(json.dumps(lock))
    assert _prepared(image, tmp_path) == ["npm ci in images/x"]
    (image.folder / "package-lock.json").write_text("{")
    with pytest.raises(EmbeddedError, match=r"npm ci failed in images/x with exit code \d+; its output is in .*log"):
        _prepared(image, tmp_path)


def test_python_packages_are_installed_when_the_lock_file_changed(tmp_path: Path) -> None:
    image = _image(tmp_path, "FROM a\n", requirements_txt="# nothing\n")
    assert _prepared(image, tmp_path, times=2) == ["uv pip sync in images/x"]
    prefix = subprocess.run(
        ["python", "-c", "import sys; print(sys.prefix)"],
        env={"PATH": str(image.path[0])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert prefix.stdout.strip() == str(image.folder / ".venv")
    assert _prepared(image, tmp_path) == []
    (image.folder / "requirements.txt").write_text("# nothing else\n")
    assert _prepared(image, tmp_path) == ["uv pip sync in images/x"]


def test_the_queue_is_in_order_and_what_is_given_back_goes_to_the_next() -> None:
    async def play() -> list[str]:
        scheduler = Scheduler(Resources(2000, 1000))
        order: list[str] = []

        async def work(name: str, need: Resources, turns: int) -> None:
            async with scheduler.granted(need):
                order.append(f"+{name}")
                for _ in range(turns):
                    await asyncio.sleep(0)
                order.append(f"-{name}")

        jobs = [
            asyncio.ensure_future(work(name, need, turns))
            for name, need, turns in [
                ("a", Resources(1000, 600), 200),
                ("big", Resources(2000, 10), 5),
                ("gone", Resources(1000, 10), 5),
                ("small", Resources(1000, 600), 5),
            ]
        ]
        await _turns()
        assert order == ["+a"]  # `small` would fit, but `big` came first
        jobs[2].cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        async with asyncio.timeout(5), scheduler.granted(scheduler.capacity):
            pass  # all of it came back
        return order

    assert asyncio.run(play()) == ["+a", "-a", "+big", "-big", "+small", "-small"]


def test_a_cancelled_grant_is_given_back_whenever_it_is_cancelled() -> None:
    """While it waits, when it is being served, and when it has been and does not know yet."""

    async def play(turns: int) -> None:
        scheduler = Scheduler(Resources(1, 1))

        async def work() -> None:
            async with scheduler.granted(scheduler.capacity):
                await asyncio.sleep(5)  # stands for work

        waiting = asyncio.ensure_future(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(5), scheduler.granted(scheduler.capacity):
            pass

    async def each() -> None:
        await asyncio.gather(*(play(turns) for turns in range(100)))

    asyncio.run(each())


def test_earlier_runs_come_first_and_within_a_run_what_asks_last_may_come_first() -> None:
    async def play() -> list[str]:
        scheduler = Scheduler(Resources(1, 1))
        order: list[str] = []

        async def work(name: str, place: Place, turns: int) -> None:
            for _ in range(turns):  # on its way through DAGs
                await asyncio.sleep(0)
            async with scheduler.granted(scheduler.capacity, place):
                order.append(name)

        first, second = scheduler.arrive(), scheduler.arrive()
        await asyncio.gather(
            work("second run", Place(second, -9), 0),
            work("short way", Place(first, -1), 0),
            work("long way", Place(first, -4), 12),
        )
        return order

    assert asyncio.run(play()) == ["long way", "short way", "second run"]


def test_a_small_one_passes_a_large_one_only_where_it_cannot_delay_it() -> None:
    async def play(running: list[int], small: int) -> bool:
        scheduler = Scheduler(Resources(2000, 1000))
        began: list[str] = []

        async def work(name: str, cpu: int) -> None:
            async with scheduler.granted(Resources(cpu, 1)):
                began.append(name)
                await asyncio.sleep(60)  # stands for work

        works = [*((f"running {cpu}", cpu) for cpu in running), ("large", 850), ("small", small)]
        jobs = [asyncio.ensure_future(work(*each)) for each in works]
        await _turns()
        assert began[: len(running)] == [f"running {cpu}" for cpu in running]
        assert "large" not in began
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        return "small" in began

    assert asyncio.run(play([850, 850], 250))  # whichever of the two ends, 850 are free again
    assert not asyncio.run(play([800, 950], 250))  # the end of the first would no longer do
    assert not asyncio.run(play([850, 850], 301))


def test_processes_weigh_for_cores_by_what_was_asked_for(tmp_path: Path) -> None:
    assert [Resources(cpu, 1).niceness for cpu in (4000, 1000, 850, 500, 250, 100, 1)] == [0, 0, 1, 3, 6, 10, 19]

    async def play() -> list[int]:
        processes, out = Processes(), tmp_path / "out"
        script = 'sleep 0.5; nice; cat /proc/$$/autogroup 2>/dev/null | sed "s/.* nice //"'
        command = Command(("sh", "-c", script), {"PATH": os.environ["PATH"]}, tmp_path, out, out, niceness=6)
        ends = await asyncio.gather(*(processes.run(command) for _ in range(3)))
        assert [end.code for end in ends] == [0, 0, 0]
        await processes.close(1)
        return [int(line) for line in out.read_text().split()]

    said = asyncio.run(play())
    assert len(said) in (3, 6)  # without autogroup, only the processes' own
    assert set(said) == {6}


async def _turns() -> None:
    """As many of the event loop as the queue waits for others to ask, and more."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_a_process_that_ignores_everything_is_killed_with_its_session(tmp_path: Path) -> None:
    async def play() -> None:
        processes = Processes()
        out = tmp_path / "out"
        process = await processes.start(
            Command(
                ("sh", "-c", "trap '' TERM; echo $$; sleep 1000 & wait; sleep 1000"),
                {"PATH": os.environ["PATH"]},
                tmp_path,
                out,
                out,
            )
        )
        while not out.read_text():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
        end = await process.stop(15, 0.05)
        assert (end.code, end.signal) == (137, 9)
        await processes.close(1)

    asyncio.run(play())


def test_no_child_is_left_unburied(tmp_path: Path) -> None:
    """An orphan of a task becomes the supervisor's child; its end must be collected."""
    script = """
import asyncio, os, sys
from pathlib import Path
from mlops.engines.embedded.tasks import Command, Processes
async def play():
    processes, out = Processes(), Path(sys.argv[1])
    script = "(sleep 0.1 & echo $!) ; sleep 1000"
    process = await processes.start(Command(("sh", "-c", script), {"PATH": os.environ["PATH"]}, out.parent, out, out))
    async with asyncio.timeout(30):
        while not (orphan := out.read_text().strip()) or Path(f"/proc/{orphan}").exists():
            await asyncio.sleep(0.02)
    await process.stop(9, 1)
    await processes.close(1)
asyncio.run(play())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_written_together_is_written_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")

    def interrupted() -> None:
        with store.together():
            store.put("run", "a", {"x": 1})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert store.get("run", "a") is None
    store.put("run", "a", {"x": 1}, parent="j", token="t")  # noqa: S106
    with pytest.raises(StorageError, match="UNIQUE"):
        store.put("run", "b", {"x": 2}, parent="j", token="t")  # noqa: S106
    store.put("run", "a", {"x": 3}, unfinished=False)
    assert store.by_token("run", "j", "t") == {"x": 3}
    assert list(store.all("run", unfinished=True)) == []
    store.close()
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageError, match=re.escape("newer version")):
        Store(tmp_path / "db")
