"""What is true of all rules together, of the real stacks under them, and of exemptions, levels and hostile input."""

import copy
import datetime
import importlib
import json
import pkgutil
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.policy
from infra.settings import ROOT, stacks
from inventory.resources import SECRET, UNKNOWN, Inventory
from policy.judge import EXPIRED, FAILED, UNUSED, judge
from policy.rule import Level, Part, Rule, Stack
from policy.rules import ALL
from policy.settings import FOLDER, PolicyError, PolicySettings, load
from policy.verdicts import Verdict
from tests.policy.conftest import TODAY, changed, stack

JOB = "sales-close-prediction"
STRANGE = (
    None,
    True,
    -1,
    1.5,
    "",
    "x" * 10_000,
    "(" * 5_000,
    "\x00\ud800",
    [],
    [[None]],
    {},
    {"": None},
    UNKNOWN,
    SECRET,
)


def test_every_rule_has_a_change_that_breaks_it() -> None:
    modules = [
        importlib.import_module(f"tests.policy.{one.name}") for one in pkgutil.iter_modules(tests.policy.__path__)
    ]
    shown = {case.rule for module in modules for case in getattr(module, "CASES", ())}
    assert {rule.id for rule in ALL} - shown == set()


def test_every_rule_says_what_it_is() -> None:
    ids = [rule.id for rule in ALL]
    assert len(ids) == len({*ids, EXPIRED, UNUSED}) - 2, "an id is a rule's own"
    for rule in ALL:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.id), rule.id
        assert len(rule.id) <= 40, rule.id
        assert rule.holds.endswith(".") and rule.fix.endswith("."), rule.id  # noqa: PT018
        assert len(rule.why) > 10, rule.id
        assert rule.level is not Level.DISABLED, rule.id


@pytest.mark.parametrize("name", stacks())
def test_a_real_stack_keeps_every_rule_or_is_exempt_for_a_time(name: str) -> None:
    """In an update nothing is left open; in a preview of what is not there yet some is, and nothing else."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    settings = load(name)
    assert all(one.until < today + datetime.timedelta(days=184) for one in settings.exemptions), (
        "for half a year at most"
    )
    update = judge(stack(name), settings, ALL, today)
    assert [verdict for verdict in update if verdict.state != "exempt"] == []
    preview = judge(stack(name, preview=True), settings, ALL, today)
    assert [verdict for verdict in preview if verdict.state == "violated"] == []
    assert [verdict for verdict in preview if verdict.message.startswith(FAILED)] == []


def _privileged() -> Inventory:
    def edit(inputs: dict[str, Any]) -> None:
        inputs["jobspec"] = inputs["jobspec"].replace("      config {", "      config {\n privileged = true", 1)

    return changed(stack("local"), "nomad:index/job:Job", JOB, edit)


def _exempt(until: str, resource: str = JOB) -> PolicySettings:
    one = {"rule": "nomad-task-privileged", "resource": resource, "reason": "Only to try it.", "until": until}
    return PolicySettings.model_validate({"parameters": load("local").parameters, "exemptions": [one]})


def _told(settings: PolicySettings, inventory: Inventory | None = None) -> list[tuple[str, str, str]]:
    found = judge(inventory or _privileged(), settings, ALL, TODAY)
    return [(verdict.rule, verdict.level, verdict.state) for verdict in found]


def test_an_exemption_excuses_until_its_last_day() -> None:
    assert _told(_exempt(str(TODAY))) == [("nomad-task-privileged", "mandatory", "exempt")]
    ended = _told(_exempt(str(TODAY - datetime.timedelta(days=1))))
    assert ended == [(EXPIRED, "mandatory", "violated"), ("nomad-task-privileged", "mandatory", "violated")]


def test_an_exemption_is_of_one_resource_and_told_if_it_excuses_nothing() -> None:
    other = _told(_exempt("2999-01-01", "another"))
    assert other == [("nomad-task-privileged", "mandatory", "violated"), (UNUSED, "advisory", "violated")]
    assert _told(_exempt("2999-01-01"), stack("local")) == [(UNUSED, "advisory", "violated")]


@pytest.mark.parametrize(("level", "told"), [("advisory", ["advisory"]), ("disabled", [])])
def test_a_stack_may_set_another_level(level: str, told: list[str]) -> None:
    settings = PolicySettings.model_validate(
        {"parameters": load("local").parameters, "levels": {"nomad-task-privileged": level}}
    )
    assert [verdict[1] for verdict in _told(settings)] == told


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("levels: {no-such-rule: disabled}", "there is no rule no-such-rule, so no policy was applied"),
        (
            "exemptions: [{rule: nothing-here, resource: x, reason: because it is so, until: 2999-01-01}]",
            "nothing-here",
        ),
        (
            "exemptions: [{rule: bucket-public, resource: x, reason: because it is so}]",
            "exemptions.0.until: Field required",
        ),
        ("exemptions: [{rule: bucket-public, resource: x, reason: no, until: 2999-01-01}]", "exemptions.0.reason"),
        ("level: {}", "x.yaml: level: Extra inputs are not permitted"),
        ("[}", "policy/stacks/x.yaml: is not YAML, so no policy was applied"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
        ("exemptions: [{until: 2027-02-30}]", "is not YAML, so no policy was applied; correct it: day is out of range"),
        ("[" * 5_000, "is nested more than"),
        ('"\\e[2J": {}', "x.yaml: \\x1b[2J: Extra inputs are not permitted"),
        ("text", "the file: Input should be"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as raised:
        judge(stack("local"), load("x", tmp_path), ALL, TODAY)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_rule_that_fails_passes_nothing() -> None:
    def fails(_: Part, __: Stack) -> Iterator[str]:
        yield "a first problem"
        raise KeyError("x")

    def bad(_: Any) -> Iterator[Part]:
        raise TypeError("y")
        yield

    broken = (
        Rule("check-fails", Level.MANDATORY, "a", "b", "c", fails, ("nomad:index/job:Job",)),
        Rule("parts-fail", Level.MANDATORY, "a", "b", "c", fails, ("nomad:index/job:Job",), bad),
    )
    found = judge(stack("local"), PolicySettings(), broken, TODAY)
    assert [(one.rule, one.state, one.message) for one in found] == [
        ("check-fails", "violated", "a first problem"),
        ("check-fails", "not decided", f"{FAILED}KeyError: 'x'"),
        ("parts-fail", "not decided", f"{FAILED}TypeError: y"),
    ]


def test_no_input_makes_the_rules_fail_as_a_whole() -> None:
    """A change may set anything anywhere; what cannot be read is not decided, and the other rules are applied."""
    prod = stack("prod")
    # One resource of each type.
    few = prod.model_copy(update={"resources": list({one.type: one for one in prod.resources}.values())})
    for value in STRANGE:
        _judged(few, lambda inputs, value=value: dict.fromkeys(inputs, value))
    chosen = random.Random(7)  # noqa: S311
    for _ in range(20):
        _judged(few, lambda inputs: _with_one_strange(copy.deepcopy(inputs), chosen))


def _judged(inventory: Inventory, edit: Callable[[dict[str, Any]], Any]) -> list[Verdict]:
    resources = [one.model_copy(update={"inputs": edit(one.inputs)}) for one in inventory.resources]
    return judge(inventory.model_copy(update={"resources": resources}), load("prod"), ALL, TODAY)


def _with_one_strange(inputs: dict[str, Any], chosen: random.Random) -> dict[str, Any]:
    place: Any = inputs
    while place:
        key = chosen.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and chosen.random() < 0.8:
            place = place[key]
            continue
        place[key] = chosen.choice(STRANGE)
        break
    return inputs


@pytest.mark.parametrize("name", stacks())
def test_an_editor_finds_the_schema(name: str) -> None:
    schema = ROOT / "docs" / "reference" / "policy.schema.json"
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    assert (FOLDER / first.removeprefix("# yaml-language-server: $schema=")).resolve() == schema
    rules = json.loads(schema.read_text(encoding="utf-8"))["properties"]["levels"]["propertyNames"]["enum"]
    assert rules == sorted(rule.id for rule in ALL)
