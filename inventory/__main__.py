"""`python -m inventory --stack local`: what a stack registers, as JSON."""

import argparse
import sys

from infra.settings import ROOT
from inventory.checkout import checkout
from inventory.recorder import PlanError, record, unconfined


def main() -> int:
    """Print the inventory; exit code 2 with one line if there is none."""
    parser = argparse.ArgumentParser(prog="python -m inventory", description=__doc__)
    parser.add_argument("--stack", default="local", help="the stack's name (default: %(default)s)")
    parser.add_argument("--preview", action="store_true", help="leave computed outputs unknown")
    parser.add_argument(
        "--allow-unconfined",
        action="store_true",
        help="run the program with files and network in reach where the kernel cannot confine it",
    )
    arguments = parser.parse_args()
    try:
        confine = unconfined(arguments.stack, allowed=arguments.allow_unconfined) is None
        with checkout(ROOT) as tree:
            inventory = record(arguments.stack, preview=arguments.preview, root=tree, confine=confine)
    except PlanError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(inventory.model_dump_json(indent=2, exclude_defaults=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
