"""One sample change of each kind, and which files it touches: `python -m tests.house.sample_changes [KIND...]`.

Makes each change of the how-tos in a copy of the checkout, writes anew what is generated, and compares the files that
are then others with the index in CONTRIBUTING.md. It says nothing of whether a change is a good one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.settings import ROOT, stacks
from tests.argo.test_how_to import files

PAGE = "CONTRIBUTING.md"
HEADING = "### The files of a change"
# One process for all that is written, so that each stack's program runs once; where a change leaves a stack as it is,
# once for all changes.
WRITE = """
import functools, json, pickle, runpy, sys
from pathlib import Path
import inventory.recorder
record, (kept, changed, modules) = inventory.recorder.record, json.loads(sys.argv[1])

@functools.cache
def recorded(stack, **options):
    file = Path(kept) / f"{stack} {options}"
    if stack not in changed and file.exists():
        return pickle.loads(file.read_bytes())
    made = record(stack, **options)
    if stack not in changed:
        file.write_bytes(pickle.dumps(made))
    return made

inventory.recorder.record = recorded
for module, *arguments in modules:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")
"""
Edit = Callable[[Path], None]


def edit(name: str, old: str, new: str) -> Edit:
    """A text of a file in the place of another, which is there once."""

    def make(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times: mend {Path(__file__).name}"
        (root / name).write_text(text.replace(old, new), encoding="utf-8")

    return make


def add(name: str, text: str) -> Edit:
    """A new file, or more at the end of one."""

    def make(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return make


def copied(folder: str, to: str, *renamed: tuple[str, str]) -> Edit:
    """A folder beside another, of which it is a copy in which some names are others."""

    def make(root: Path) -> None:
        shutil.copytree(root / folder, root / to, ignore=shutil.ignore_patterns("node_modules", ".venv", "target"))
        for path in filter(Path.is_file, (root / to).rglob("*")):
            text = path.read_text(encoding="utf-8")
            for old, new in renamed:
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")

    return make


_DEV = "stacks/Pulumi.dev.yaml"
_STORAGE = "    noncurrent_days: int = Field(\n"
_LOGS = """

def _logs(task: Part, _: Stack) -> Iterator[str]:
    for logs in nomad.blocks(task, "logs"):
        if (logs.get("max_files") or 10) > 10:
            yield f"logs.max_files is {logs.get('max_files')}"


RULES = (
    *RULES,
    _job("task-logs", "No task keeps many log files.", "They are on the disk.", "Set fewer.", _logs),
)
"""
_NAMES = (
    ("sales-close-prediction", "elasticity"),
    ("sales_close_prediction", "elasticity"),
    ("image_tensornode", "image_elasticity"),
    ("images/tensornode", "images/elasticity"),
)
_JOBS, _POOL = "  hybrid-mlops:jobs:\n", "    elasticity: {variables: {node_pool: train}}\n"
SAMPLES: Mapping[str, tuple[Edit, ...]] = {
    "setting": (edit(_DEV, "    noncurrent_days: 7\n", "    noncurrent_days: 8\n"),),
    "new setting": (
        edit(
            "infra/settings/google.py",
            _STORAGE,
            '    upload_days: int = Field(default=7, description="Days until an upload is given up.")\n' + _STORAGE,
        ),
        edit("infra/foundation/buckets.py", "age=7)", "age=settings.storage.upload_days)"),
    ),
    "pool": (
        edit(
            _DEV,
            "        pools:\n          train:\n",
            "        pools:\n          large: {machine_type: n1-highmem-8, size: 1, boot_disk_gb: 100}\n"
            "          train:\n",
        ),
    ),
    "bucket": (
        edit(
            _DEV,
            "    models: hybrid-mlops-dev-models\n",
            "    models: hybrid-mlops-dev-models\n    more: {exports: hybrid-mlops-dev-exports}\n",
        ),
    ),
    "job": (
        copied("jobs/sales_close_prediction", "jobs/elasticity", *_NAMES),
        copied("images/tensornode", "images/elasticity", *_NAMES),
        *(edit(f"stacks/Pulumi.{stack}.yaml", _JOBS, _JOBS + _POOL) for stack in ("dev", "staging", "prod")),
    ),
    "workflow": tuple(add(name, text) for name, text in files().items()),
    "image": (add("images/tensornode/src/main.js", "// more\n"),),
    "rule": (
        add("policy/rules/nomad.py", _LOGS),
        add(
            "tests/policy/test_nomad.py",
            'MORE = Case("nomad-task-logs", TRAINING, line("max_files     = 2", "max_files     = 20"), "is 20")\n'
            "CASES = (*CASES, MORE)\n",
        ),
    ),
    "exemption": (
        add(
            "policy/stacks/dev.yaml",
            "exemptions:\n"
            "  - {rule: nomad-task-confined, resource: eu-sales-close-prediction, until: 2027-02-28,"
            " reason: Its cache is there.}\n",
        ),
    ),
    "error message": (
        edit("mlops/parameters.py", "is given twice, so nothing was started", "is there twice, so nothing was started"),
        edit("tests/jobs/test_parameters.py", "is given twice", "is there twice"),
    ),
}


OF_DEV = ("setting", "pool", "bucket")
"""Kinds of which the sample is a change of one stack's file."""
NO_PROGRAM = ("image", "rule", "exemption", "error message")
"""Kinds of which no stack registers anything else; names of images are not in inventories."""


def touched(kind: str, kept: Path) -> list[str]:
    """The files that a kind of change touches; `kept` is a folder that other kinds use too."""
    with tempfile.TemporaryDirectory(prefix="sample-") as folder:
        root = Path(folder) / "checkout"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in filter(None, _git(ROOT, *listed[1:]).split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        _git(root, "init", "-q")
        _git(root, "add", "-A")
        _git(root, "-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-qm", "x")
        for change in SAMPLES[kind]:
            change(root)
        environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        changed = [] if kind in NO_PROGRAM else ["dev"] if kind in OF_DEV else sorted(stacks())
        modules = [*([["tests.plan.inventories"]] if changed else []), ["tools.docs"]]
        command = [sys.executable, "-c", WRITE, json.dumps((str(kept), changed, modules))]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{kind}: {done.stderr[-2000:]}"
        _git(root, "add", "-A")
        return _git(root, "diff", "--cached", "--name-only").split()


def index(text: str) -> dict[str, list[str]]:
    """The patterns of files by kind of change, as the page has them."""
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!change|---)([^|]+) \|(.*)\|$", section, re.MULTILINE)
    return {kind.strip(): re.findall(r"`([\w.<>*/-]+)`", cells) for kind, cells in rows}


def differences(kind: str, found: list[str], patterns: list[str]) -> list[str]:
    """In what the files of a sample are not those of the index."""
    fits = {pattern: [name for name in found if re.fullmatch(_expression(pattern), name)] for pattern in patterns}
    more = {*found} - {name for names in fits.values() for name in names}
    return [f"{kind}: {PAGE} does not name {name}" for name in sorted(more)] + [
        f"{kind}: {PAGE} names {pattern}, which the sample does not touch" for pattern in patterns if not fits[pattern]
    ]


def _expression(pattern: str) -> str:
    """`<name>` stands for one part of a path or of a name, `**` for any path below."""
    text = re.sub(r"<\w+>", "<>", pattern)
    return re.escape(text).replace(r"\*\*", ".+").replace("<>", r"[\w.-]+")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def main(*kinds: str) -> int:
    """Print the files of each kind of change, and where the index says something else."""
    listed = index((ROOT / PAGE).read_text(encoding="utf-8"))
    wrong = []
    with tempfile.TemporaryDirectory(prefix="samples-") as kept:
        for kind in kinds or SAMPLES:
            found = touched(kind, Path(kept))
            sys.stdout.write(f"{kind}: {' '.join(found)}\n")
            wrong += differences(kind, found, listed.get(kind, []))
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
