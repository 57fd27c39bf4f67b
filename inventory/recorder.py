"""Planning without a cloud: the Pulumi program runs under Pulumi's own mocks, and what it registers is the inventory.

Owns what a run of the program is given: a fresh process, the stack file's configuration with placeholders for
encrypted values, and a few listed environment variables, so that neither a credential of the caller's nor one of the
stack's can be in an inventory. The process itself is in `program.py`, and how it is confined in
`mlops_registry/confinement.py`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.credentials import masked
from infra.settings import PROJECT, ROOT, SettingsError, read_config
from inventory.resources import Inventory
from mlops_registry import confinement
from mlops_registry.text import printable

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")
_NOMAD = "http://127.0.0.1:4646"
"""Stands for the address of a stack that names none; the program is not to know that it is being recorded."""
_CONTEXT = "current"
"""Stands for the context of a stack that names none: whichever is current where it is deployed."""
_SECONDS = 300


class PlanError(Exception):
    """The stack cannot be planned; the message says why, a line each problem."""


def unconfined(stack: str, *, allowed: bool) -> str | None:
    """Why a stack's program will run with files and network in reach; None where it is confined.

    Raises:
        PlanError: It cannot be confined, and that is not allowed.
    """
    problem = confinement.problem()
    if problem and not allowed:
        raise PlanError(
            f"stack {stack} was not planned, since its program would have your files and the network in reach "
            f"({printable(problem)}); let the kernel confine it, or pass --allow-unconfined if you trust the program"
        )
    return problem


def record(stack: str, *, preview: bool = False, root: Path = ROOT, confine: bool = False) -> Inventory:
    """Run the Pulumi program for a stack and return everything that it registers.

    Args:
        stack: The stack's name.
        preview: Leave computed outputs unknown, as `pulumi preview` does; otherwise they have made-up values.
        root: The checkout whose program is run.
        confine: Run it without a network, and with nothing but the checkout to read; `confinement.problem` is None.

    Raises:
        PlanError: The stack's settings cannot be used, or the program failed.
    """
    try:
        config, secret = read_config(stack, root / "stacks")
    except SettingsError as error:
        raise PlanError(str(error)) from None
    task = {
        "project": PROJECT,
        "stack": stack,
        "preview": preview,
        "config": {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()},
        "secret": sorted(secret),
    }
    program, packages = (Path(__file__).with_name(name) for name in ("program.py", "packages.py"))
    with (
        tempfile.TemporaryDirectory(prefix="mlops-plan-") as folder,
        # Its own folder, since the program's home is empty.
        tempfile.TemporaryDirectory(prefix="mlops-cluster-") as beside,
    ):
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        # An empty home: no credentials file of the caller's is found by a provider's library.
        environment |= {"HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        kubeconfig = Path(beside) / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(config)))
        environment |= {"NOMAD_ADDR": _NOMAD, "KUBECONFIG": str(kubeconfig)}
        # -P: the folder of `program.py` is not on the path, where its modules could hide others' of the same name.
        command = [sys.executable, "-P", str(program), str(root)]
        if confine:
            command = confinement.confined(command, root, [root, program, packages, kubeconfig])
        try:
            finished = subprocess.run(
                command,
                input=json.dumps(task),
                capture_output=True,
                text=True,
                cwd=root,
                env=environment,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PlanError(
                f"the program of stack {stack} ran for {_SECONDS} seconds, so it was ended; find what it waits for"
            ) from None
    if not finished.stdout:
        last = printable(masked((finished.stderr.strip().splitlines() or ["it said nothing"])[-1]))
        raise PlanError(f"the program of stack {stack} ended with exit code {finished.returncode}: {last}")
    try:
        answer = json.loads(finished.stdout)
        if "error" in answer:
            raise PlanError(printable(masked(str(answer["error"])), keep="\n"))
        return Inventory.model_validate(answer)
    except (ValueError, TypeError, RecursionError):
        # What it says instead is not repeated: it may be anything.
        raise PlanError(
            f"the program of stack {stack} wrote an inventory that is none, so it cannot be planned; a program only "
            "registers resources"
        ) from None


def _kubeconfig(config: Mapping[str, Any]) -> dict[str, Any]:
    """A kubeconfig that has the stack's context, without an address or a credential."""
    kubernetes = config.get(f"{PROJECT}:kubernetes")
    context = (kubernetes.get("context") if isinstance(kubernetes, Mapping) else None) or _CONTEXT
    return {"current-context": context, "contexts": [{"name": context}]}
