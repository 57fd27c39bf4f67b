"""Plans of several stacks as one comment: `plans.py PLAN.json...`, a file a stack, as `mlops plan --json` wrote them.

Owns the order and each plan's share of a comment's length. The plans may be a stranger's: what they say is data, read
into `mlops plan`'s own form and shown as that shows it, as code that cannot leave its place, under a sentence that says
whose claim it is. A plan that is not of that form, because the change is to the form or because someone made it up, is
named and not shown.
"""

import sys
from pathlib import Path

from pydantic import ValidationError

from mlops.changes.comment import LIMIT, code
from mlops.changes.render import markdown
from mlops.changes.report import Plan

MARKER = "<!-- mlops-plan -->"
"""The first line, by which the comment is found again."""

_CLAIM = (
    "**The change's own claim.** Code of the change itself computed this without a cloud, and could have made it up. "
    "Read the files that changed; only a preview or a saved plan of the engine shows what will happen."
)


def comment(plans: dict[str, bytes], limit: int = LIMIT) -> str:
    """The comment.

    Args:
        plans: What each file holds, by its stack.
        limit: Its longest length, in bytes.
    """
    parts = [f"{MARKER}\n{_CLAIM}\n"]
    read: list[Plan] = []
    for stack, text in plans.items():
        try:
            plan = Plan.model_validate_json(text)
        except ValidationError:
            parts.append(f"### {code(stack)}\n\nIts plan cannot be read here: see the summary of the run.\n")
            continue
        if plan.stack == stack:
            read.append(plan)
        else:
            parts.append(
                f"### {code(stack)}\n\nIts plan is of another stack, {code(plan.stack)}, so it is not shown.\n"
            )
    room = limit - sum(len(part.encode()) + 1 for part in parts)
    for left, plan in zip(range(len(read), 0, -1), read, strict=True):
        parts.append(markdown(plan, room // left - 1))
        room -= len(parts[-1].encode()) + 1
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(comment({Path(name).stem: Path(name).read_bytes() for name in sys.argv[1:]}))
