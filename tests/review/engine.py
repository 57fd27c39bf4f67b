"""The golden previews, made anew: the sample program on the real `pulumi`, with the stand-in provider behind it.

`python -m tests.review.engine` writes them to `previews/`, and the comments that they become beside them. What differs
from run to run, or tells of the machine, is replaced by something that does not; nothing else is touched.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2

from mlops.changes.findings import review
from mlops.changes.markdown import render
from mlops.changes.preview import read_plan, read_preview
from tests.engine.kinds import KINDS
from tests.engine.provider import PassThrough, debug_providers, serving
from tests.engine.stack import Stack, environment

HERE = Path(__file__).parent
PREVIEWS = HERE / "previews"
GOLDEN = ("create", "change", "failed")
REPLACES = {
    "gcp:storage/bucket:Bucket": ("location", "name", "project"),
    "gcp:compute/disk:Disk": ("zone", "type"),
    "gcp:projects/iAMMember:IAMMember": ("role", "member", "condition"),
}
"""Which inputs make a new resource: ForceNew in the provider's source; previews/README.md says where it was read."""
ADOPTED = {"name": "example-adopted", "project": "example-project", "location": "EU"}
"""What the bucket that revision 2 imports is like already."""


class Cloud(PassThrough):
    """The stand-in, with one bucket that was there before."""

    def Read(self, request, context):  # noqa: N802 - gRPC's name
        """Answer as the provider does for what exists: what it is like, as inputs and as state."""
        if request.id != "example-adopted":
            return super().Read(request, context)
        found = Struct()
        found.update(ADOPTED)
        return provider_pb2.ReadResponse(id=request.id, properties=found, inputs=found)


def make(folder: Path) -> dict[str, Any]:
    """Every preview and plan, by file name, made in `folder`."""
    program = folder / "program"
    shutil.copytree(HERE / "program", program, ignore=shutil.ignore_patterns("__pycache__"))
    kinds = {kind: replace(KINDS.get(kind, KINDS["gcp"]), replaces=frozenset(keys)) for kind, keys in REPLACES.items()}
    provider = Cloud(kinds={**KINDS, **kinds})
    made: dict[str, Any] = {}
    with serving(provider) as port:
        shell = environment(folder) | debug_providers(port, "gcp", "kubernetes", "nomad")
        # Pulumi takes the first Python on PATH: the one that runs this.
        shell["PATH"] = f"{Path(sys.executable).parent}:{shell['PATH']}"
        stack = Stack("dev", program, shell, provider)

        def preview(revision: int, *options: str) -> Any:
            stack.must("config", "set", "revision", str(revision))
            return _neutral(stack.pulumi("preview", "--json", *options).stdout, folder)

        stack.must("stack", "init")
        stack.must("config", "set", "--secret", "token", "first")
        made["create.json"] = preview(1)
        stack.must("up", "--yes", "--skip-preview")
        stack.must("config", "set", "--secret", "token", "second")
        made["change.json"] = preview(2, "--save-plan", str(folder / "plan.json"))
        made["change.steps.json"] = preview(2, "--show-replacement-steps", "--show-sames")
        made["change.plan.json"] = _neutral((folder / "plan.json").read_text(encoding="utf-8"), folder)
        made["failed.json"] = preview(3)
    return made


def _neutral(text: str, folder: Path) -> Any:
    """The document, without times, random parts, and what tells of the machine."""
    text = text.replace(str(folder), "/home/user")
    text = re.sub(r'("(?:time|created|modified)": )"[^"]+"', r'\1"2026-01-01T00:00:00Z"', text)
    text = re.sub(r'("(?:ciphertext|secure|seed|magic)": )"[^"]*"', r'\1"AAAA"', text)
    text = re.sub(r'("duration": )\d+', r"\g<1>1000000000", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", _uuid, text)
    document = _without_positions(json.loads(text))
    if "diagnostics" in document:
        # What the stopped program wrote: a traceback through the files of this machine.
        document["diagnostics"] = [one for one in document["diagnostics"] if one["severity"] != "info#err"]
    if "steps" in document:
        # The engine works on several at a time, and ends in whatever order.
        document["steps"].sort(key=lambda step: (step["urn"], step["op"]))
    return document


def _without_positions(value: Any) -> Any:
    """Without where in the sources each resource was made: paths of this machine."""
    if isinstance(value, dict):
        return {
            key: _without_positions(item) for key, item in value.items() if key not in ("sourcePosition", "stackTrace")
        }
    return [_without_positions(item) for item in value] if isinstance(value, list) else value


def _uuid(found: re.Match[str]) -> str:
    # The mark of an unknown value is one too.
    mark = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
    return mark if found[0] == mark else "00000000-0000-4000-8000-000000000000"


def comment(folder: Path, name: str) -> str:
    """The comment that a preview becomes, with its plan if there is one."""
    plan = folder / f"{name}.plan.json"
    found = review([read_preview(folder / f"{name}.json")], read_plan(plan) if plan.exists() else None)
    return render(found)


def store(made: Mapping[str, Any], folder: Path) -> None:
    """Write what was made."""
    for name, document in made.items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write() -> None:
    """Make them anew, beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder))
    # The same change, told at length: of use to a test only.
    del made["change.steps.json"]
    store(made, PREVIEWS)
    for name in GOLDEN:
        (PREVIEWS / f"{name}.md").write_text(comment(PREVIEWS, name), encoding="utf-8")


if __name__ == "__main__":
    write()
