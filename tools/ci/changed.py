"""Which stacks a change changes: `changed.py FOLDER BASE STACKS`, as a line `stacks=[...]` for GitHub's outputs.

FOLDER holds what `mlops plan --json` wrote, a file a stack; STACKS is the JSON list of those to choose from. A stack
counts as changed where its plan differs, where there is no plan, and where a file differs since BASE of which a plan
tells nothing: its own (an encrypted value), and the versions of the providers.
"""

import json
import subprocess
import sys
from pathlib import Path

from pydantic import ValidationError

from mlops.changes.report import Plan

_EVERY = ("requirements/platform.txt", "Pulumi.yaml")


def changed(stack: str, folder: Path, base: str) -> bool:
    """Whether a stack is changed."""
    files = [*_EVERY, f"stacks/Pulumi.{stack}.yaml"]
    if subprocess.run(["git", "diff", "--quiet", base, "--", *files], check=False).returncode:
        return True
    try:
        comparison = Plan.model_validate_json((folder / f"{stack}.json").read_bytes()).comparison
    except (OSError, ValidationError):
        return True
    return comparison is None or bool(comparison.difference.changes or comparison.difference.outputs)


if __name__ == "__main__":
    folder, base, stacks = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3] or "[]")
    print(f"stacks={json.dumps([stack for stack in stacks if changed(stack, folder, base)])}")
