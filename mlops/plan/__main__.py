"""`python -m mlops.plan --stack local`: what a stack registers, as JSON."""

import argparse
import sys

from mlops.plan import PlanError, record


def main() -> int:
    """Print the inventory; exit code 2 with one line if there is none."""
    parser = argparse.ArgumentParser(prog="python -m mlops.plan", description=__doc__)
    parser.add_argument("--stack", default="local", help="the stack's name (default: %(default)s)")
    parser.add_argument("--preview", action="store_true", help="leave computed outputs unknown")
    arguments = parser.parse_args()
    try:
        inventory = record(arguments.stack, preview=arguments.preview)
    except PlanError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(inventory.model_dump_json(indent=2, exclude_defaults=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
