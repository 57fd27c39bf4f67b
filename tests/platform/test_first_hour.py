"""The page of the first hour is true: its commands, settings, outputs and machines are those that there are."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from infra import settings
from infra.foundation import apis, quota
from infra.next_steps import next_steps
from infra.settings import ROOT
from inventory.capacity import capacity
from inventory.resources import Inventory
from mlops.cli.main import app
from tests.conftest import Mlops

PAGE = (ROOT / "docs" / "how-to" / "first-hour.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PRINTED = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = "\n".join(BLOCKS).replace("\\\n", " ")


def words(line: str) -> list[str]:
    """The words of one command, without a comment, up to where another command begins."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    found = list(lexer)
    return found[: next((at for at, word in enumerate(found) if set(word) <= set("|&;")), len(found))]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_commands_are_a_shells(block: str) -> None:
    checked = subprocess.run(["sh", "-n"], input=block, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_every_command_of_ours_is_there_with_its_options() -> None:
    calls = re.findall(r"\.venv/bin/mlops ((?:(?!\.venv/bin/mlops).)*)", f"{COMMANDS}\n" + "\n".join(PRINTED))
    assert len(calls) >= 8
    for call in calls:
        given = words(call.replace("-- sh -c '", "--"))
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            assert given[0] in command.commands, call
            command = command.commands[given.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts}
        options = [word for word in (given[: given.index("--")] if "--" in given else given) if word.startswith("-")]
        assert set(options) <= known, call
    modules = re.findall(r"\.venv/bin/python -m ([\w.]+)", COMMANDS)
    assert modules
    assert all(find_spec(module) for module in modules)


def test_what_only_an_owner_knows_is_set_and_every_setting_is_one() -> None:
    told = set(re.findall(r"hybrid-mlops:([a-z_][\w.]*)(?![\w.]*:)", PAGE))
    for path in told:
        model: Any = settings.Settings
        for part in path.split("."):
            assert part in model.model_fields, path
            model = _below(model.model_fields[part].annotation)
    dev = settings.load("dev")
    # Of what the stack has at all; what it may have besides is for another hour.
    outside = {path for path in _from_outside(settings.Settings) if getattr(dev, path.partition(".")[0])}
    assert {"gcp.project", "nomad.release.sha256"} <= outside
    assert outside <= told


def test_the_next_steps_of_the_stack_are_its_steps(recorded: Callable[..., Inventory]) -> None:
    told = " ".join(COMMANDS.split())
    for line in next_steps("dev", settings.load("dev"), ROOT):
        if not line.startswith("#"):
            asked = line.replace("stand-in-project", "$PROJECT").replace("--stack dev", "--stack $STACK")
            # What a run must be given is the reader's to say.
            assert " ".join(re.sub(r"=DATA_UR[IL]$", "=", asked).split()) in told, line
    outputs = recorded("dev").outputs
    (printed,) = [block for block in PRINTED if "Outputs:" in block]
    assert set(re.findall(r"^    (\w+) *: \[$", printed, re.MULTILINE)) == set(outputs)
    for name in ("nomad_jobs", "workflow_templates"):
        for at, value in enumerate(outputs[name]):
            assert f'[{at}]: "{value}"' in printed


def test_what_stays_on_is_what_the_page_says(recorded: Callable[..., Inventory]) -> None:
    found = capacity(recorded("dev"))
    kept = Counter[str]()
    for pool in found.pools:
        if pool.machine_type and pool.minimum.machines:
            kept[pool.machine_type] += pool.minimum.machines
    told = Counter[str]()
    for count, machine in re.findall(r"^\| (\d+) `(n1-[\w-]+)` \|", PAGE, re.MULTILINE):
        told[machine] += int(count)
    assert told == kept
    assert f"| {found.minimum.disk_gb:g} GB of disks |" in PAGE
    (asked,) = quota.demand(settings.load("dev")).values()
    text = " ".join(PAGE.split())
    assert f"`dev` needs {asked.least} vCPU and {asked.least_gb} GB at once" in text
    assert f"grows to {asked.most} vCPU and {asked.most_gb} GB" in text
    assert {asked.most, asked.most_gb} == {found.maximum.vcpu, found.maximum.disk_gb}


def test_every_quota_that_an_update_asks_for_can_be_read_beforehand() -> None:
    (block,) = [block for block in BLOCKS if "--flatten=quotas" in block]
    shown = re.compile("|".join(re.findall(r"grep -E '([^']*)'", block)))
    for metric in set(re.findall(r'"([A-Z_]*(?:CPUS|_GB)[A-Z_]*)"', (ROOT / "infra/foundation/quota.py").read_text())):
        assert shown.search(metric), metric


def test_every_api_is_turned_on_beforehand() -> None:
    (block,) = [block for block in BLOCKS if "gcloud services enable" in block]
    (command,) = re.findall(r"gcloud services enable ((?:[^\n\\]|\\\n)*)", block)
    assert re.findall(r"(\w+)\.googleapis\.com", command) == list(apis.ALL)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["tunnel", "--stack", "dev", "--", "true"], {}),
        (
            ["run", "sales-close-prediction", "--stack", "dev", "-p", "model_version=1"],
            {"NOMAD_ADDR": "http://127.0.0.1:9"},
        ),
    ],
    ids=["project", "data_url"],
)
def test_what_is_refused_is_told_as_the_page_says(
    arguments: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = Mlops(tmp_path, environment=environment)(*arguments)
    assert done.returncode == 2
    said = re.sub(r" \(.*", "", done.stderr.strip())
    assert said in " ".join(PAGE.split())


def test_the_sample_is_written_as_the_page_says(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if "Caravan.csv" in block]
    program = shlex.split(block)[2].replace(".cache", str(ROOT / ".cache"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert {path.name for path in tmp_path.iterdir()} >= {"areas.csv", "customers.csv", "caravan.csv"}
    assert json.dumps((tmp_path / "customers.csv").read_text().splitlines()[0]).startswith('"Id,Area,')


def _from_outside(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Paths of settings that no stack file has."""
    for name, field in model.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and "x-stand-in" in field.json_schema_extra:
            yield f"{at}{name}"
        elif inner := _below(field.annotation):
            yield from _from_outside(inner, f"{at}{name}.")


def _below(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is of, if it is of one; below a mapping names are the owner's."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = getattr(annotation, "__args__", ())
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)
