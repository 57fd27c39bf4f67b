"""`make bench`: what the platform costs, a subject a module; `python -m tests.bench SUBJECT` measures one.

Every comparison is a ratio of two things measured in this one run, in turn (A B B A), since machines differ and drift.
"""

import argparse
import os

from tests.bench import listing, plan, refit, trainings

SUBJECTS = {"trainings": trainings, "listing": listing, "refit": refit, "plan": plan}


def main() -> None:
    """Measure the subjects that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*SUBJECTS, []], help="only these")
    for subject in SUBJECTS.values():
        subject.options(parser)
    chosen = parser.parse_args()
    load = os.getloadavg()
    print(f"{os.cpu_count()} cores, load {load[0]:.2f} (1 min) {load[1]:.2f} (5 min) at the start\n")
    for name in chosen.what or SUBJECTS:
        SUBJECTS[name].measure(chosen)
        print(flush=True)


main()
