"""Trainings of the first lane: what the embedded engine adds, and where one's time goes."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import CHECKOUT, Mlops

PARALLEL = os.cpu_count() or 1


def _by_hand(mlops: Mlops, runs: int) -> float:
    """Wall seconds of the same commands of all tasks, without the engine, as many at a time as there are cores."""
    platform = mlops.json("up")["platform"]
    run = mlops.json("runs", "list", "-n", "1")[0]
    given = {key.upper(): value for key, value in run["parameters"].items()}
    image = CHECKOUT / "images" / "tensornode"
    python = Path(sys.executable).parent
    volume = mlops.state / "by-hand"

    def one(_: int) -> None:
        allocation = str(uuid.uuid4())
        version = f"{given['SAVE_PATH']}_v{given['MODEL_VERSION']}_{allocation}"
        environment = {
            **given,
            "PATH": f"{python}:{os.environ['PATH']}",
            "HOME": str(volume),
            "RUN_DIR": str(volume / version),
            "ALLOC_ID": allocation,
            "DATA_URL": f"{platform['feed_url']}/data/caravan.csv",
            "STORAGE_EMULATOR_HOST": platform["storage_address"],
            "NODE_EXTRA_CA_CERTS": platform["ca_file"],
            "MODEL": "by-hand",
            "VERSION_ID": version,
            "LANE": "nomad",
            "ENGINE_RUN": "by-hand",
            "IMAGE": "by-hand",
        }
        shared = volume / f"{version}-shared"
        scored = ["--input", str(shared / "version"), "--output", str(shared / "scored"), "--wait", "3600"]

        def begun(*command: str) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(command, cwd=image, env=environment, stdout=subprocess.DEVNULL)

        for side_by_side in (
            [("node", "src/main.js", "train")],
            [
                ("mlops-registry", "store", "--verify-in", str(shared), "--wait", "3600"),
                ("mlops-registry", "score", *scored),
            ],
            [("mlops-registry", "clear")],
        ):
            if any(process.wait() for process in [begun(*command) for command in side_by_side]):
                raise RuntimeError(f"{side_by_side} failed")

    volume.mkdir(exist_ok=True)
    start = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(one, range(runs)))
    return time.perf_counter() - start


def _through_engine(mlops: Mlops, runs: int) -> float:
    """Wall seconds of the same runs through the engine, from the submission to the last verification."""
    feed = mlops.json("up")["platform"]["feed_url"]
    start = time.perf_counter()
    mlops.json(
        *("run", "sales-close-prediction", "-p", "model_version=1", "--runs", str(runs)),
        *("-p", f"data_url={feed}/data/caravan.csv"),
        timeout=3600,
    )
    return time.perf_counter() - start


def options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--trainings", type=int, default=40, help="how many each way")


def measure(chosen: argparse.Namespace) -> None:
    """The embedded engine against the same commands by hand."""
    runs = chosen.trainings
    with tempfile.TemporaryDirectory() as folder:
        # Compiled modules are kept, as they are for the commands by hand, whatever this process was told.
        mlops = Mlops(Path(folder) / "state", environment={"PYTHONDONTWRITEBYTECODE": ""})
        assert mlops("up").returncode == 0
        try:
            _through_engine(mlops, PARALLEL)  # what is read for the first time is read before anything is measured
            hand, engine = [], []
            for way, times in (
                (_by_hand, hand),
                (_through_engine, engine),
                (_through_engine, engine),
                (_by_hand, hand),
            ):
                times.append(way(mlops, runs // 2))
            print(f"{runs} trainings, {PARALLEL} at a time")
            print(f"  by hand            {sum(hand):8.1f} s  ({', '.join(f'{t:.1f}' for t in hand)})")
            print(f"  embedded engine    {sum(engine):8.1f} s  ({', '.join(f'{t:.1f}' for t in engine)})")
            print(f"  ratio              {sum(engine) / sum(hand):8.3f}    (goal: at most 1.10)")
            _stages(mlops)
        finally:
            mlops("down")


def _stages(mlops: Mlops) -> None:
    """Where one run's time goes: its tasks, and the stages of its training."""
    run = mlops.json("runs", "list", "-n", "1")[0]["id"]
    execution = mlops.json("runs", "show", run)["executions"][0]
    print("one run, task by task")
    for step in execution["steps"]:
        print(
            f"  {step['name']:<18} {step['wall_seconds']:8.2f} s wall {step['cpu_seconds']:8.2f} s cpu"
            f" {step['peak_memory_mb']:8.0f} MiB peak of {step['memory_mb']} asked"
        )
    print("one training, stage by stage")
    for line in mlops("runs", "logs", run, "--task", "train").stdout.splitlines():
        # extract: 5822 rows, ... (0.35 s)
        if match := re.fullmatch(r"(\w+): .*\((\d+\.\d+) s\)", line):
            print(f"  {match[1]:<18} {match[2]:>8} s")
