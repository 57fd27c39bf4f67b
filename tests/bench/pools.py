"""How planning grows with pools and jobs: stack prod with so many more of each, by settings and folders alone.

And how judging that by the project's policies grows: they compare resources with each other, so copies of resources
under other names would not do.
"""

import copy
import datetime
import multiprocessing
import shutil
import statistics
from itertools import pairwise
from pathlib import Path

import yaml

from infra.settings import ROOT
from inventory.checkout import checkout
from inventory.recorder import record
from inventory.resources import Inventory
from inventory.values import with_references
from policy import settings as policies
from policy.judge import judge
from policy.rules import ALL
from tests.bench.clock import cpu

_FORK = multiprocessing.get_context("fork")
_STACK = "prod"
_FOLDER, _JOB, _POOL = "sales_close_prediction", "sales-close-prediction", "train"


def measure(counts: list[int], times: int, *, confine: bool) -> None:
    """Plan and judge each size in turn, and print what a further resource costs from size to size."""
    plans: dict[int, list[float]] = {count: [] for count in counts}
    judgements: dict[int, list[float]] = {count: [] for count in counts}
    resources: dict[int, int] = {}
    for _ in range(times):
        for count in counts:
            with checkout(ROOT) as tree:
                _grow(tree, count)
                start = cpu()
                inventory = record(_STACK, root=tree, confine=confine)
            plans[count].append(cpu() - start)
            start = cpu()
            # In a process of its own: jobs that were read for a smaller size are not read again.
            judging = _FORK.Process(target=_judge, args=[inventory])
            judging.start()
            judging.join()
            judgements[count].append(cpu() - start)
            resources[count] = len(inventory.resources)
    for what, seconds in (("planning", plans), ("judging, by policies,", judgements)):
        print(f"{what} {_STACK} with so many pools of Nomad clients and jobs more")
        _table({count: statistics.median(each) for count, each in seconds.items()}, resources)


def _table(seconds: dict[int, float], resources: dict[int, int]) -> None:
    for count, each in seconds.items():
        print(f"  {count:>6} more {resources[count]:>7} resources {each:8.2f} s")
    sizes = list(pairwise(seconds))
    further = [(seconds[more] - seconds[few]) / (resources[more] - resources[few]) for few, more in sizes]
    for (few, more), cost in zip(sizes, further, strict=True):
        print(f"  from {few} to {more}: {cost * 1e3:.2f} ms a further resource")
    for earlier, later in pairwise(further):
        print(f"  ratio {later / earlier:.2f}   (linear: 1)", flush=True)


def _judge(inventory: Inventory) -> None:
    judge(with_references(inventory), policies.load(_STACK), ALL, datetime.datetime.now(tz=datetime.UTC).date())


def _grow(tree: Path, count: int) -> None:
    """Add pools, and for each a job that goes there: a copy of a real one under another name."""
    path = tree / "stacks" / f"Pulumi.{_STACK}.yaml"
    stack = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = stack["config"]
    jobs = config["hybrid-mlops:jobs"]
    for number in range(count):
        name, folder = f"more-{number}", f"more_{number}"
        for region in config["hybrid-mlops:nomad"]["regions"].values():
            region["pools"][name] = copy.deepcopy(region["pools"][_POOL])
        shutil.copytree(tree / "jobs" / _FOLDER, tree / "jobs" / folder)
        job = tree / "jobs" / folder / "job.nomad.hcl"
        text = job.read_text(encoding="utf-8").replace(f'job "{_JOB}"', f'job "{name}"')
        job.write_text(text, encoding="utf-8")
        jobs[name] = copy.deepcopy(jobs[_JOB])
        jobs[name]["variables"]["node_pool"] = name
    path.write_text(yaml.dump(stack, Dumper=_Plain), encoding="utf-8")


class _Plain(yaml.CSafeDumper):
    """Without anchors: a stack file says everything out."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  YAML's
        return True
