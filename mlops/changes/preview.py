"""What a preview or an update plan of Pulumi's says, as steps with the properties that they change.

Owns the two formats: `pulumi preview --json` (pkg/display/json.go in pulumi/pulumi, and the states of
sdk/go/common/apitype/core.go) and `--save-plan` (sdk/go/common/apitype/plan.go). It deliberately judges nothing: see
`findings`. Unknown and secret values become the inventory's marks, so nothing beyond this module meets a ciphertext.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from infra.credentials import masked, masked_value
from inventory.resources import SECRET, UNKNOWN
from mlops.changes.secrets import bare, sides, told, told_apart

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SIGNATURES = {
    "1b47061264138c4ac30d75fd1eb44270": SECRET,
    "c44067f5952c0a294b673a41bacd8c17": "[asset]",
    "0def7320c3a5731c473e5ecbe6d01bc7": "[archive]",
    "803fd3297a5875dc03ca845dda5d2a98": "[bytes]",
    "5cf8f73096256a8f31e491e813e4eb8e": "[resource]",
}
"""What is shown for Pulumi's special values (sdk/go/common/resource/sig/sig.go)."""
_COMPUTED = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands for an unknown value (pkg/resource/stack/deployment.go)."""
_ROOT = "pulumi:pulumi:Stack"
_REPLACE = {
    "replace",
    "create-replacement",
    "delete-replaced",
    "import-replacement",
    "read-replacement",
    "discard-replaced",
}
OPERATIONS = ("delete", "replace", "create", "import", "update", "read")
"""What is told of, the gravest first. Others, of an engine newer than this, follow by their own names."""


class ReviewError(Exception):
    """A file that is no preview or plan: one line for people."""


@dataclass(frozen=True)
class Absent:
    """Where a property is not set, or a plan does not say what it was."""


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One property that a step changes.

    Attributes:
        path: Where it is, as Pulumi writes it: `nodeConfig.machineType`, `ports[0]`, `labels["a.b"]`.
        old: Its value before, or `ABSENT`.
        new: Its value after, or `ABSENT`.
        replaces: Whether the provider named it as a reason to replace the resource.
        hidden: Whether the program asked that its values are not shown (`hide_diffs`).
    """

    path: str
    old: Any
    new: Any
    replaces: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one resource.

    Attributes:
        op: One of `OPERATIONS`, `same` where only its protection changes, or what else the engine said.
        layer: The type of the component that it belongs to, without the project's name; empty directly below the stack.
        old: The inputs before; empty where there were none, or a plan does not say.
        new: The inputs after; empty for a deletion.
        protected: Whether it was protected before.
        released: Whether it was protected, and is not any more.
        guarded: Whether it will be protected, and was not.
        retained: Whether a deletion only forgets it.
        sent: The inputs after as the engine or the plan has them, to be compared. They are not to be shown.
        moved: The URN that it had, where an alias makes it the same resource.
    """

    op: str
    urn: str
    type: str
    name: str
    layer: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    changes: Sequence[Change]
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)
    protected: bool = False
    released: bool = False
    guarded: bool = False
    retained: bool = False
    moved: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error or a warning, and the name of the resource it is about, if any."""

    severity: str
    message: str
    name: str


@dataclass(frozen=True)
class Preview:
    """What is going to happen to one stack.

    Attributes:
        finished: Whether the engine came to the end and counted; otherwise more may happen than the steps say.
        unchanged: How many resources stay as they are, the stack and components among them.
        output: What the program wrote on standard error.
    """

    project: str
    stack: str
    steps: Sequence[Step]
    errors: Sequence[Diagnostic]
    warnings: Sequence[Diagnostic]
    finished: bool
    unchanged: int = 0
    output: str = ""

    @property
    def failed(self) -> bool:
        """Whether the preview tells less than everything."""
        return bool(self.errors) or not self.finished


class _Model(BaseModel):
    # A newer engine adds fields; none that is read here may be missing or of another type.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class _State(_Model):
    urn: str
    type: str
    custom: bool
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    protect: bool = False
    retain_on_delete: bool = False
    hide_diff: list[list[str | int]] | None = None
    additional_secret_outputs: list[str] = []


class _Difference(_Model):
    kind: str = ""
    input_diff: bool = False


class _Step(_Model):
    op: str
    urn: str
    old_state: _State | None = None
    new_state: _State | None = None
    diff_reasons: list[str] = []
    replace_reasons: list[str] = []
    detailed_diff: dict[str, _Difference] | None = None


class _Diagnostic(_Model):
    urn: str = ""
    prefix: str = ""
    message: str = ""
    severity: str = ""


class _Digest(_Model):
    steps: list[_Step] = []
    diagnostics: list[_Diagnostic] = []
    change_summary: dict[str, int] | None = None
    resource_plans: Any = None
    plan: Any = None
    deployment: Any = None


class _Inputs(_Model):
    adds: dict[str, Any] = {}
    deletes: list[str] = []
    updates: dict[str, Any] = {}


class _Goal(_Model):
    custom: bool
    input_diff: _Inputs = _Inputs()
    id: str = ""


class _Resource(_Model):
    goal: _Goal | None = None
    steps: list[str] = []


class _Plan(_Model):
    resource_plans: dict[str, _Resource]


_M = TypeVar("_M", bound=BaseModel)


def read_preview(file: Path) -> Preview:
    """Read what `pulumi preview --json` printed.

    Raises:
        ReviewError: It is not that.
    """
    digest = _load(_Digest, file, "a preview", "pulumi preview --json")
    if digest.resource_plans is not None or digest.plan is not None:
        raise ReviewError(f"{file}: is an update plan, not a preview; give it with --plan")
    if digest.deployment is not None:
        raise ReviewError(f"{file}: is a stack's state, not a preview; give what `pulumi preview --json` prints")
    if not digest.steps and not digest.diagnostics and digest.change_summary is None:
        raise ReviewError(f"{file}: has no steps and no diagnostics, so there is nothing to review; run it again")
    project, stack = _where(
        (step.urn for step in digest.steps), (diagnostic.urn for diagnostic in digest.diagnostics), default=file.stem
    )
    steps = [
        step
        for raw in _merged(digest.steps)
        if _kind(raw.urn)[1] != _ROOT and all(state.custom for state in (raw.old_state, raw.new_state) if state)
        # With `--show-sames` what stays as it is is told too.
        if (step := _step(raw, project)).op != "same" or step.released or step.guarded or step.moved
    ]
    told = {
        severity: [
            Diagnostic(severity, _message(one), one.urn.rpartition("::")[2])
            for one in digest.diagnostics
            if one.severity == severity
        ]
        for severity in ("error", "warning")
    }
    return Preview(
        project,
        stack,
        _sorted(steps),
        told["error"],
        told["warning"],
        finished=digest.change_summary is not None,
        unchanged=(digest.change_summary or {}).get("same", 0),
        output="\n".join(text for one in digest.diagnostics if one.severity == "info#err" and (text := _message(one))),
    )


def read_plan(file: Path) -> Preview:
    """Read what `pulumi preview --save-plan` wrote: steps with the values that they set, which is all that it records.

    Raises:
        ReviewError: It is not that.
    """
    plan = _load(_Plan, file, "an update plan", "pulumi preview --save-plan")
    project, stack = _where(plan.resource_plans, default=file.stem)
    steps: list[Step] = []
    for urn, resource in plan.resource_plans.items():
        chain, kind, name = _kind(urn)
        goal = resource.goal or _Goal(custom=kind.partition(":")[0] != project)
        # An import is told by its id alone: the engine records no step for it.
        for op in dict.fromkeys(map(_operation, resource.steps or (["import"] if goal.id else []))):
            if op != "same" and goal.custom:
                new = _plain(goal.input_diff.adds | goal.input_diff.updates)
                steps.append(Step(op, urn, kind, name, _layer(chain, project), {}, masked_value(new), [], new))
    return Preview(project, stack, _sorted(steps), [], [], finished=True)


def properties(step: Step) -> Sequence[Change]:
    """What a step changes; of a creation, everything that is set."""
    if step.op == "create" and not step.changes:
        return [Change(path, ABSENT, value) for path, value in leaves("", step.new)]
    return step.changes


def leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Everything that a value holds, by path. A list of plain values is one leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(_joined(path, key), inner)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for number, inner in enumerate(value):
            yield from leaves(f"{path}[{number}]", inner)
    else:
        yield path, value


def _load(model: type[_M], file: Path, what: str, command: str) -> _M:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ReviewError(f"{file}: cannot be read ({error.strerror or error})") from None
    if not text.strip():
        raise ReviewError(f"{file}: is empty, so there is nothing to review; see what `{command}` said on stderr")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "json_invalid":
            why = first.get("ctx", {}).get("error", "")
            raise ReviewError(f"{file}: is no whole JSON document ({why}); run `{command}` again") from None
        raise ReviewError(
            f"{file}: is not {what} ({where or 'the document'}: {first['msg']}); give what `{command}` makes"
        ) from None


def _where(*urns: Iterable[str], default: str) -> tuple[str, str]:
    """The project and the stack, which every URN names: urn:pulumi:STACK::PROJECT::TYPES::NAME."""
    for each in urns:
        for urn in each:
            parts = urn.split("::")
            if len(parts) >= 4 and parts[0].startswith("urn:pulumi:"):
                return parts[1], parts[0].removeprefix("urn:pulumi:")
    return "", default


def _kind(urn: str) -> tuple[list[str], str, str]:
    """The types of the parents, the type, the name. A name may hold what separates the parts."""
    parts = urn.split("::", 3)
    chain = parts[2].split("$") if len(parts) > 2 else [""]
    return chain[:-1], chain[-1], parts[3] if len(parts) > 3 else urn


def _layer(chain: Sequence[str], project: str) -> str:
    """The nearest component: its type begins with the project's name, or at least is not a provider's resource."""
    for kind in reversed(chain):
        package, _, rest = kind.partition(":")
        if package == project:
            return rest
    return chain[0] if chain else ""


def _operation(op: str) -> str:
    # With `--refresh` every resource is told of as refreshed, and what has changed as a step of its own besides.
    return "replace" if op in _REPLACE else {"refresh": "same", "discard": "read"}.get(op, op)


def _merged(steps: Iterable[_Step]) -> Iterator[_Step]:
    """Each step once: with `--show-replacement-steps` a replacement is told in three, of which one has everything."""
    best: dict[tuple[str, str], _Step] = {}
    for step in steps:
        key = (step.urn, _operation(step.op))
        if key not in best or step.op == "replace":
            best[key] = step
    yield from best.values()


def _sorted(steps: Iterable[Step]) -> list[Step]:
    """The gravest first; the engine's own order differs from run to run."""
    rank = {op: number for number, op in enumerate(OPERATIONS)}
    return sorted(steps, key=lambda step: (rank.get(step.op, len(rank)), step.op, step.layer, step.type, step.name))


def _message(raw: _Diagnostic) -> str:
    message = (raw.prefix + raw.message).strip("\r\n").rstrip()
    return masked(message.removeprefix(f"{raw.severity}:").strip())


def _step(raw: _Step, project: str) -> Step:
    chain, kind, name = _kind(raw.urn)
    before, after = raw.old_state, raw.new_state
    # The engine gives a deletion the state that goes, and nothing new; a creation the other way round.
    old, new = (told(_inputs(state)) for state in (before, after))
    op = _operation(raw.op)
    return Step(
        op,
        raw.urn,
        kind,
        name,
        _layer(chain, project),
        bare(old),
        bare(new),
        _changes(raw, old, new) if before and after else [],
        _plain(after.inputs if after else {}),
        protected=bool(before and before.protect),
        released=bool(before and after and before.protect and not after.protect),
        guarded=bool(before and after and after.protect and not before.protect),
        retained=bool(before and before.retain_on_delete),
        moved=before.urn if before and after and before.urn != after.urn else "",
    )


def _changes(raw: _Step, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The inputs that differ, down to the leaf, and what the provider names beyond them (drift, for one)."""
    detailed = raw.detailed_diff or {}
    reasons = {*raw.replace_reasons, *(path for path, one in detailed.items() if one.kind.endswith("-replace"))}
    hidden = {_path(parts) for parts in (raw.new_state and raw.new_state.hide_diff) or []}
    found = {path: (before, after) for path, before, after in _differences("", old, new)}
    covered = {above for path in found for above in _ancestors(path)}
    before = told(_known(raw.old_state, raw.old_state.outputs)) if raw.old_state else {}
    for path in sorted({*raw.diff_reasons, *detailed, *reasons}):
        if path not in covered and not any(above in found for above in _ancestors(path)):
            found[path] = (_at(before, path), _at(new, path))
    return [
        Change(
            path,
            *map(bare, sides(before, after)),
            replaces=any(above in reasons for above in _ancestors(path)),
            hidden=any(above in hidden for above in _ancestors(path)),
        )
        for path, (before, after) in sorted(found.items())
    ]


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """The leaves that differ. Lists of plain values are leaves, since what matters is what they hold."""
    if old == new and type(old) is type(new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(_joined(path, key), old.get(key, ABSENT), new.get(key, ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and all(isinstance(one, Mapping) for one in [*old, *new]):
        if not told_apart(old, new):
            yield path, old, new
            return
        # An item that only one side has may be the other one of a secret.
        gone, come = sides(old, new)
        for number, before, after in _aligned(old, new):
            pair = (
                ABSENT if before is ABSENT else gone[number] if after is ABSENT else before,
                ABSENT if after is ABSENT else come[number] if before is ABSENT else after,
            )
            yield from _differences(f"{path}[{number}]", *pair)
    else:
        yield path, old, new


def _aligned(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Any, Any]]:
    """The pairs that belong together: by name where all have one, as Kubernetes does; otherwise by place."""
    names = [[one.get("name") for one in each] for each in (old, new)]
    if all(all(isinstance(name, str) for name in each) and len(set(each)) == len(each) for each in names):
        before = dict(zip(names[0], old, strict=True))
        for number, name in enumerate(names[1]):
            yield number, before.get(name, ABSENT), new[number]
        gone = set(names[0]) - set(names[1])
        yield from ((number, old[number], ABSENT) for number, name in enumerate(names[0]) if name in gone)
        return
    for number in range(max(len(old), len(new))):
        yield number, old[number] if number < len(old) else ABSENT, new[number] if number < len(new) else ABSENT


def _inputs(state: _State | None) -> dict[str, Any]:
    return _known(state, state.inputs) if state else {}


def _known(state: _State, values: Mapping[str, Any]) -> dict[str, Any]:
    """A state's inputs or outputs. The program may have named outputs as secret: so are the inputs of these names."""
    secret = state.additional_secret_outputs
    return {key: SECRET if key in secret else _plain(value) for key, value in values.items()}


def _joined(path: str, key: str) -> str:
    if key and not set(key) & set('.[]"'):
        return f"{path}.{key}" if path else key
    quoted = key.replace('"', '\\"')
    return f'{path}["{quoted}"]'


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _joined(path, part)
    return path


def _ancestors(path: str) -> Iterator[str]:
    """The path itself, and every path above it."""
    yield path
    quoted = False
    for place in range(len(path) - 1, 0, -1):
        if path[place] == '"' and path[place - 1] != "\\":
            quoted = not quoted
        elif not quoted and path[place] in ".[":
            yield path[:place]


def _at(value: Any, path: str) -> Any:
    """What is at a path, if it can be followed by plain keys and numbers."""
    for part in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 9 and int(part) < len(value):
            value = value[int(part)]
        else:
            return ABSENT
    return value


def _plain(value: Any) -> Any:
    """A property's value without Pulumi's special forms."""
    if isinstance(value, str):
        return UNKNOWN if value == _COMPUTED else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if signature := value.get(_SIGNATURE):
            shown = _SIGNATURES.get(signature, "[special]") if isinstance(signature, str) else "[special]"
            told = next((value[key] for key in ("hash", "urn") if isinstance(value.get(key), str)), "")
            return shown if shown == SECRET or not told else f"{shown} {told}"
        return {key: _plain(item) for key, item in value.items()}
    return value
