"""What a confined command can reach, on this machine's kernel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import ROOT
from mlops_registry import confinement
from mlops_registry.confinement import confined

if why := confinement.problem():
    pytest.skip(f"nothing can be confined here: {why}", allow_module_level=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def run(command: list[str], home: Path, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)  # type: ignore[call-overload]


PROGRAMS = {
    "python": [
        sys.executable,
        "-c",
        "import multiprocessing; multiprocessing.Lock(); open('scratch', 'w'); print('ran')",
    ],
    "node": ["node", "-e", "require('fs').writeFileSync('/tmp/scratch', ''); console.log('ran')"],
    "java": ["java", "-Xshare:auto", "-XX:+PrintCommandLineFlags", "-version"],
    "sh": ["sh", "-c", "echo ran > /dev/shm/scratch; cat /dev/shm/scratch"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run_inside_with_scratch_space_of_their_own(home: Path, program: str) -> None:
    if not shutil.which(PROGRAMS[program][0]):
        pytest.skip(f"{program} is not installed")
    done = run(confined(PROGRAMS[program], home, []), home)
    assert done.returncode == 0, done.stderr
    assert "ran" in done.stdout or program == "java"
    assert list(home.iterdir()) == []


def test_only_what_is_given_is_seen_and_only_what_is_given_as_writable_changes(home: Path, tmp_path: Path) -> None:
    for name in ("seen", "changed", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    script = (
        "import json, os, sys\n"
        "def tried(path, mode):\n"
        "    try:\n"
        "        with open(path, mode) as file: return file.write('x') if mode == 'w' else file.read()\n"
        "    except OSError as error: return type(error).__name__\n"
        "print(json.dumps([[tried(path + '/file', mode) for mode in 'rw'] for path in sys.argv[1:]]))\n"
    )
    folders = [str(tmp_path / name) for name in ("seen", "changed", "hidden")]
    command = [sys.executable, "-c", script, *folders]
    done = run(confined(command, home, [tmp_path / "seen"], writable=[tmp_path / "changed"]), home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["seen", "OSError"], ["changed", 1], ["FileNotFoundError", "FileNotFoundError"]]
    assert [(Path(folder) / "file").read_text() for folder in folders] == ["seen", "x", "hidden"]


def test_links_lead_to_what_they_lead_to_outside(home: Path, tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "inner" / "file").write_text("found")
    (tmp_path / "first").symlink_to("real")
    (tmp_path / "second").symlink_to(tmp_path / "first" / "inner")
    done = run(confined(["cat", str(tmp_path / "second" / "file")], home, [tmp_path / "second"]), home)
    assert done.stdout == "found", done.stderr


def test_an_environment_behind_a_link_is_seen(tmp_path: Path) -> None:
    """Of uv's or a container's making, `.venv` is a link often enough."""
    (tmp_path / "linked").symlink_to(sys.prefix)
    script = "import sys; from mlops_registry import confinement; print(sys.prefix, confinement.problem())"
    python = tmp_path / "linked" / "bin" / "python"
    done = subprocess.run([python, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "linked"), "None"], done.stdout + done.stderr


def test_mounts_below_what_is_shown_are_shown_read_only_too(home: Path, tmp_path: Path) -> None:
    """Of a mount that sets no flag at all, too: `strictatime` is none."""
    (tmp_path / "a folder").mkdir()
    shown = tmp_path / "a folder" / "top"
    shown.mkdir()
    inside = confined(
        ["sh", "-c", 'cat "$0/below/file"; touch "$0/x" "$0/below/x"; ls "$0" "$0/below"', str(shown)], home, [shown]
    )
    mounts = 'mount -t tmpfs -o strictatime x "$0"; mkdir "$0/below"; mount -t tmpfs -o strictatime x "$0/below"'
    outside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc"]
    done = run([*outside, f'{mounts}; echo seen > "$0/below/file"; exec "$@"', str(shown), *inside], home)
    assert done.stdout == f"seen\n{shown}:\nbelow\n\n{shown}/below:\nfile\n", done.stderr


def test_it_gets_the_descriptors_it_is_started_with_and_dies_with_who_started_it(home: Path) -> None:
    script = (
        "import os, subprocess, sys; from pathlib import Path; from mlops_registry.confinement import confined\n"
        "code = 'import os, sys, time; os.write(1, os.read(int(sys.argv[1]), 99)); time.sleep(1000)'\n"
        "inside = [sys.executable, '-c', code, sys.argv[1]]\n"
        "subprocess.run(confined(inside, Path('/'), []), pass_fds=[int(sys.argv[1])])\n"
    )
    ours, theirs = os.pipe()
    os.write(theirs, b"handed over\n")
    os.close(theirs)
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(ours)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[ours],
    )
    os.close(ours)
    assert starter.stdout
    assert starter.stdout.readline() == b"handed over\n"
    os.kill(starter.pid, signal.SIGKILL)
    # The end of the stream: nobody holds its other side any more.
    assert starter.stdout.read() == b""
    starter.wait()


@pytest.fixture
def public() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_can_confine(public: Path) -> None:
    shutil.copy2(confinement.__file__, public)
    (public / "confinement.py").chmod(0o644)
    system = "/usr/bin/python3"
    if not Path(system).exists():
        pytest.skip("there is no Python that every user may run")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, system, "-c", "import confinement; print(confinement.problem())"],
        cwd=public,
        env={"PATH": os.environ["PATH"], "HOME": str(public), "TMPDIR": str(public)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "None\n", done.stdout + done.stderr
