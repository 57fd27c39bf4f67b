"""The page of resource groups: what each component is set by, how large it may get, and who may do what because of it.

All of it is read: which settings a component uses from its source, the rest
from the inventories of the stacks. A component of one name is one group, however many regions or clusters there are.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from infra.settings import PROJECT, ROOT, Settings, load, stacks
from inventory.capacity import capacity
from inventory.permissions import permissions
from inventory.recorder import record
from inventory.resources import Inventory
from inventory.values import with_references
from mlops.changes.figures import pairs, span

_HEADER = """\
<!-- Written by: python -m tools.docs -->
# Resource groups

Every component of the program: the settings that it reads ([stack-settings.md](stack-settings.md) says what they mean),
where a key stands for all below it; what it holds, how large that may get in each stack, and what anyone may do because
of it, as in stack `{stack}`. A group within a larger one stands for itself. `${{name.output}}` is an output of the
resource of that name, `…/POOL/subject/WHO` a workload; what only the owner of a stack knows is stood in for.

Machines are counted at their smallest and at their largest; [capacity.md](capacity.md) has each stack's sums, and why
what stays on while nothing runs does.
"""
# Long parts of names and conditions of IAM that say the same in every row.
_SHORTER = (
    (re.compile(r"principal://iam\.googleapis\.com/projects/[^/]+/locations/global/workloadIdentityPools/"), "…/"),
    (re.compile(r"resource\.name\.startsWith\(\"projects/_/buckets/[^/]+/objects/([^\"]*)\"\) \|\| .*"), r"below `\1`"),
    (
        re.compile(r"resource\.name\.startsWith\(\"projects/_/buckets/[^/]+/objects/([^\"]*)\"\) && .*aliases.*"),
        r"below `\1`, aliases excepted",
    ),
)


def page(recorded: Callable[[str], Inventory] = record) -> str:
    """The page, as Markdown.

    Args:
        recorded: Gives the inventory of a stack.
    """
    inventories = {stack: with_references(recorded(stack)) for stack in stacks() if load(stack).gcp}
    largest = "prod" if "prod" in inventories else next(iter(inventories))
    tokens = sorted({token for inventory in inventories.values() for token in _components(inventory)})
    groups = [_group(token, inventories, largest) for token in tokens]
    return "\n".join([_HEADER.format(stack=largest), *groups])


def _components(inventory: Inventory) -> Iterator[str]:
    return (
        resource.type
        for resource in inventory.resources
        if not resource.custom and resource.type.startswith(f"{PROJECT}:")
    )


def _group(token: str, inventories: Mapping[str, Inventory], largest: str) -> str:
    _, layer, name = token.split(":")
    path, description, keys = _source(name)
    inventory = inventories[largest]
    inside = _inside(inventory, token)
    types = Counter(
        resource.type.rpartition(":")[2]
        for resource in inventory.resources
        if resource.urn in inside and resource.custom
    )
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(types.items())) or "other groups only"
    lines = [
        f"## {layer}: {name}",
        "",
        f"{description} [{path}](../../{path})",
        "",
        f"- settings: {', '.join(f'`{key}`' for key in keys) or 'none'}",
        f"- holds, in `{largest}`: {held}",
        "",
    ]
    rows = list(_capacity_rows(token, inventories))
    if rows:
        lines += ["| stack | pool | machine | machines | vCPU | memory, GB | disk, GB |", "| --- " * 7 + "|", *rows, ""]
    grants = sorted({grant.key for grant in permissions(inventory) if grant.urn in inside})
    if grants:
        lines += ["| who | may | on | if |", "| --- " * 4 + "|"]
        lines += [f"| {' | '.join(_cell(part) for part in grant)} |" for grant in grants]
        lines.append("")
    return "\n".join(lines)


def _inside(inventory: Inventory, token: str) -> set[str]:
    """The resources directly below components of a type."""
    own = {resource.urn for resource in inventory.resources if resource.type == token}
    return {resource.urn for resource in inventory.resources if resource.parent in own}


def _capacity_rows(token: str, inventories: Mapping[str, Inventory]) -> Iterator[str]:
    for stack, inventory in inventories.items():
        inside = _inside(inventory, token)
        for pool in capacity(inventory).pools:
            if pool.urn in inside:
                spot = " (spot)" if pool.spot else ""
                amounts = " | ".join(span(low, high) for low, high in pairs(pool.minimum, pool.maximum))
                yield f"| {stack} | {pool.name} | {pool.machine_type or pool.kind}{spot} | {amounts} |"


def _cell(text: str) -> str:
    for form, shorter in _SHORTER:
        text = form.sub(shorter, text)
    return text.replace("|", "\\|").replace("<", "&lt;")


@cache
def _modules() -> Mapping[str, tuple[Path, ast.ClassDef, ast.Module]]:
    """Every component of the program, by its class."""
    found = {}
    for path in sorted((ROOT / "infra").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any("ComponentResource" in ast.unparse(base) for base in node.bases):
                found[node.name] = path, node, tree
    return found


def _source(name: str) -> tuple[str, str, list[str]]:
    """Where a component is written, what it says of itself, and the settings that its module reads."""
    path, node, tree = _modules()[name]
    description = (ast.get_docstring(node) or "").partition("\n")[0]
    keys = {key for expression in _whole_expressions(tree) if (key := _key(expression))}
    # All of something includes its parts.
    keys = sorted(key for key in keys if not any(key.startswith((f"{other}.", f"{other}[")) for other in keys))
    return str(path.relative_to(ROOT)), description, keys


def _whole_expressions(tree: ast.Module) -> Iterator[ast.expr]:
    """Every `a.b[c].d` that is no part of a longer one, and no mere question of whether `a.b` is there."""
    parts, asked = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript):
            parts.add(node.value)
        elif isinstance(node, ast.If | ast.IfExp | ast.Assert):
            asked.add(node.test)
        elif isinstance(node, ast.BoolOp):
            asked.update(node.values)
        elif isinstance(node, ast.UnaryOp):
            asked.add(node.operand)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Subscript) or node in parts:
            continue
        # Of a whole section it is asked whether it is there, of a key in it what it is.
        if node not in asked or ast.unparse(node).count(".") > 1:
            yield node


def _key(node: ast.expr) -> str | None:
    """The setting that an expression such as `settings.nomad.regions[region].zones` reads; None if it is none."""
    text = ast.unparse(node)
    found = re.fullmatch(r"(?:self\._)?settings\.([\w.]+(?:\[\w+\][\w.]*)*)", text)
    if not found:
        return None
    model: type[BaseModel] | None = Settings
    parts: list[str] = []
    for part in re.sub(r"\[\w+\]", ".<name>", found[1]).split("."):
        if part == "<name>":
            parts.append(part)
        elif model is None or part not in model.model_fields:
            break
        else:
            parts.append(part)
            model = _below(model.model_fields[part].annotation)
    return ".".join(parts) or None


def _below(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner: Iterable[Any] = get_args(annotation)
    return next((model for model in map(_below, inner) if model), None)
