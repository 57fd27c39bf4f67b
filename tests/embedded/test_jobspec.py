"""Reading a job file: what is executed, what is said to have no effect, what is refused by name and line."""

import re

import pytest

from definitions.nomad.hcl import HclError, evaluate
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.nomad.jobspec import PARTS, DockerConfig, Part, parse
from mlops.engines.embedded.scheduler import Resources
from tests.embedded.conftest import job, task


def test_variables_have_types_and_values() -> None:
    source = """
variable "text" {
  type = string
}
variable "number" {
  type    = number
  default = 2
}
variable "yes" {
  type    = bool
  default = false
}
variable "list" {
  type        = list(string)
  description = "Several."
  default     = ["a"]
}
locals {
  both = "${var.text}-${var.number}"
}
a = local.both
b = var.number * 3 + 1
c = var.yes ? "on" : "off"
d = var.list[1]
e = "${NOMAD_META_x} ${env["Y"]}"
f = NOMAD_ALLOC_ID
g = {
  "k" = var.yes
}
h = <<-EOT
  one ${var.text}
    two
  EOT
"""
    found = evaluate(source, {"text": "5", "yes": "true", "list": '["x", "y"]'})
    assert dict(found) == {
        "a": "5-2",
        "b": 7,
        "c": "on",
        "d": "y",
        "e": '${NOMAD_META_x} ${env["Y"]}',
        "f": "${NOMAD_ALLOC_ID}",
        "g": {"k": True},
        "h": "one 5\n  two\n",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('\na = format("x")\n', "line 2: function format()"),
        ("a = [for x in y : x]\n", "line 1: for tuple expr"),
        ("a = attr.cpu\n", "line 1: ${attr.cpu} is a node's property"),
        ("a = typo\n", 'line 1: "typo" is unknown'),
        ("a = var.typo\n", "line 1: var.typo is not declared"),
        ("locals {\n x = local.x\n}\na = local.x\n", "line 2: local.x refers to itself"),
        ('\n\nvariable "x" {\n type = string\n}\n', 'line 3: variable "x" has no value'),
        ('variable "x" {\n type = number\n default = "many"\n}\n', 'line 1: variable "x": the value is not a number'),
        ('variable "x" {\n type = object({})\n default = 1\n}\n', "type object({}) is not executed"),
        ('variable "x" {\n default = 1\n validation {\n }\n}\n', 'line 3: variable "x": "validation"'),
        ('job "x" {\n dynamic "task" {\n }\n}\n', "line 2: dynamic blocks"),
        ('a = "%{ if true }x%{ endif }"\n', "line 1: template directives"),
        ("a = 1 / 0\n", "line 1: division by zero"),
        ("a = 1\na = 2\n", 'line 2: "a" is given twice'),
        ("a = = 1\n", "line 1: this is not valid HCL"),
        ("a = x.*.y\n", "line 1: attr splat"),
    ],
)
def test_what_hcl_is_not_executed_is_named(source: str, message: str) -> None:
    with pytest.raises(HclError, match=re.escape(message)) as caught:
        evaluate(source, {})
    assert "\n" not in str(caught.value)


def test_a_value_for_an_undeclared_variable_is_refused() -> None:
    with pytest.raises(HclError, match='variable "typo", which the job file does not declare'):
        evaluate("", {"typo": "1"})


# Where a line may be put to stand in a block of the kind.
_PLACES = {
    "job": lambda line: job("j", task("main", "true")).replace('type = "batch"', f'type = "batch"\n{line}'),
    "parameterized": (
        lambda line: job("j", task("main", "true")).replace("parameterized {", f"parameterized {{\n{line}")
    ),
    "group": lambda line: job("j", task("main", "true"), group=line),
    "restart": lambda line: job("j", task("main", "true"), restart=f"attempts = 0\n{line}"),
    "reschedule": lambda line: job("j", task("main", "true")).replace("reschedule {", f"reschedule {{\n{line}"),
    "volume": lambda line: job(
        "j", task("main", "true"), group=f'volume "v" {{\ntype = "host"\nsource = "v"\n{line}\n}}'
    ),
    "task": lambda line: job("j", task("main", "true", more=line)),
    "lifecycle": lambda line: job(
        "j", task("main", "true"), task("a", "true", more=f'lifecycle {{\nhook = "prestart"\n{line}\n}}')
    ),
    "resources": lambda line: job("j", task("main", "true", more=f"resources {{\n{line}\n}}")),
    "template": lambda line: job(
        "j", task("main", "true", more=f'template {{\ndata = ""\ndestination = "d"\nenv = true\n{line}\n}}')
    ),
    "volume_mount": lambda line: job(
        "j",
        task("main", "true", more=f'volume_mount {{\nvolume = "v"\ndestination = "/v"\n{line}\n}}'),
        group='volume "v" {\ntype = "host"\nsource = "v"\n}',
    ),
    "config": lambda line: job("j", task("main", "true")).replace("config {", f"config {{\n{line}"),
}


def _place(part: type[Part], line: str) -> str:
    source = _PLACES[part.block](line)
    if part is DockerConfig:
        source = source.replace('driver = "exec"', 'driver = "docker"').replace(
            'command = "sh"', 'image = "r/i:1"\ncommand = "sh"'
        )
    return source


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_the_three_lists_hold(part: type[Part]) -> None:
    """Every name without meaning is accepted and said, every refused one and any unknown one is named with its line."""
    for name in part.without_meaning:
        _, notes = parse(_place(part, f"{name} = 1"), {})
        assert [note for note in notes if note.startswith(f"{part.block}.{name} has no effect here: ")], name
    for name in [*part.refused, "no_such_field"]:
        source = _place(part, f"{name} = 1")
        line = [text.strip() for text in source.splitlines()].index(f"{name} = 1") + 1
        with pytest.raises(EmbeddedError, match=rf'^line {line}: .*"{name}"') as caught:
            parse(source, {})
        assert "\n" not in str(caught.value)
    assert not part.without_meaning.keys() & part.refused.keys()
    assert not (part.without_meaning.keys() | part.refused.keys()) & part.model_fields.keys()


def test_a_note_is_given_once() -> None:
    _, notes = parse(job("j", task("a", "true", more='user = "nobody"'), task("b", "true", more='user = "nobody"')), {})
    assert notes == ["task.user has no effect here: a task is a process of the user who started the platform"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('type = "batch"', 'type = "service"'), "type: input should be 'batch'"),
        (('type = "batch"', ""), "job > type: field required"),
        (('driver = "exec"', 'driver = "raw_exec"'), 'driver "raw_exec" is not executed'),
        (('command = "sh"', ""), "config > command: field required"),
        (('args    = ["-c", "true"]', "args = 5"), "config > args"),
        (
            ("attempts = 0\n    }\n    reschedule", 'mode = "delay"\n    }\n    reschedule'),
            "restart > mode: input should be 'fail'",
        ),
        (
            ("reschedule {\n      attempts = 0", "reschedule {\n      attempts = 1"),
            "reschedule > attempts: input should be 0",
        ),
        (('task "main"', 'task "a b"'), "a name of 1 to 128 characters"),
        (('task "main"', 'task "../x"'), "a name of 1 to 128 characters"),
        (("meta_required = []", 'meta_required = ["x"]\nmeta_optional = ["x"]'), '"meta_optional" is given twice'),
        (("parameterized {", "periodic {"), '"periodic" is not executed'),
        (('group "work"', "group"), "one label is wanted"),
    ],
)
def test_mistakes_are_told_in_one_line(change: tuple[str, str], message: str) -> None:
    source = job("j", task("main", "true"))
    assert change[0] in source
    with pytest.raises(EmbeddedError, match=re.escape(message)) as caught:
        parse(source.replace(*change), {})
    assert re.match(r"line \d+: ", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task("a", "true"), task("a", "true")], "two tasks have one name"),
        (
            [task("a", "true", more="leader = true"), task("b", "true", more="leader = true")],
            "only one task may be the leader",
        ),
        ([task("a", "true", hook="prestart")], "a main task"),
        (
            [task("a", "true", more='volume_mount {\nvolume = "x"\ndestination = "/x"\n}')],
            "volume that the group does not declare: x",
        ),
        ([task("a", "true", more='lifecycle {\nhook = "poststart"\n}')], "hook"),
        ([task("a", "true", more='lifecycle {\nhook = "prestart"\nsidecar = true\n}')], "sidecar"),
        ([task("a", "true", more='template {\ndata = "{{ key 1 }}"\ndestination = "x"\nenv = true\n}')], "{{ key 1 }}"),
        ([task("a", "true", more='template {\ndata = "x"\ndestination = "x"\n}')], "template: no file is written"),
        ([task("a", "true", more='env {\nA = "${env["B"]}"\n}')], "Nomad replaces"),
        ([task("a", "true", more='kill_timeout = "soon"')], "a duration"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(tasks: list[str], message: str) -> None:
    with pytest.raises(EmbeddedError, match=re.escape(message)):
        parse(job("j", *tasks), {})


def test_stages_do_not_add_up() -> None:
    def asking(name: str, cpu: int, memory: int, hook: str = "") -> str:
        return task(name, "true", hook=hook, more=f"resources {{\ncpu = {cpu}\nmemory = {memory}\n}}")

    parsed, _ = parse(
        job(
            "j",
            asking("a", 500, 900, "prestart"),
            asking("b", 300, 100),
            asking("c", 300, 100),
            asking("d", 100, 10, "poststop"),
        ),
        {},
    )
    assert parsed.amount() == Resources(600, 900)


def test_a_tasks_restart_block_is_laid_over_the_groups() -> None:
    parsed, _ = parse(
        job(
            "j",
            task("a", "true", more="restart {\nattempts = 5\n}"),
            task("b", "true"),
            restart='attempts = 1\ndelay = "1m30s"',
        ),
        {},
    )
    first, second = parsed.group[0].task
    assert first.restart
    assert (first.restart.attempts, first.restart.delay) == (5, 90)
    assert second.restart is None
    assert (parsed.group[0].restart.attempts, parsed.group[0].restart.interval) == (1, 86400)
