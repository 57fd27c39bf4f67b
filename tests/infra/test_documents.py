"""YAML that anybody may have written: what is read, and what is refused before it costs anything."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from definitions.documents import DocumentError, load, load_all
from definitions.typed import DefinitionError
from infra.settings import ROOT, SettingsError
from infra.settings import load as load_settings
from inventory.recorder import PlanError, record
from mlops import parameters
from mlops.engines.embedded.argo import support
from policy.parts import workflows
from policy.settings import PolicyError
from policy.settings import load as load_policies


def laughs(levels: int, width: int = 9, form: str = "[{}]", leaf: str = "lol") -> str:
    lines = [f"a0: &a0 {leaf}"]
    lines += [f"a{n}: &a{n} {form.format(', '.join([f'*a{n - 1}'] * width))}" for n in range(1, levels)]
    return "\n".join(lines)


MERGES = "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30))
REFUSED = {
    "sequences": laughs(30),
    "a long text many times": laughs(2, width=1000, leaf="x" * 2000),
    "keys": "a: &a {}\nb:\n".format("x" * 100_000) + "\n".join(f"  - *a\n  - {n}" for n in range(11)),
    "merge keys": MERGES,
    "itself": "a: &a [*a]",
    "itself, further down": "a: &a {b: {c: [1, *a]}}",
    "nothing": "a: *b",
    "depth": "[" * 5_000 + "]" * 5_000,
    "depth that is never closed": "[" * 200_000,
    "block depth": "\n".join("  " * n + "a:" for n in range(300)),
    "depth of aliases": "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)),
    "length": "a: " + "x" * 1_000_001,
    "a comment's length": "#" + "x" * 1_000_001,
    "documents": "a: 1\n---\nb: 2\n",
    "syntax": "a: [",
    "a date": "a: 2027-02-30",
    "digits": "a: 1" + "0" * 5000,
    "objects": "!!python/object/apply:os.getcwd []",
    "control characters": "a: \x07",
    "an unhashable key": "{[a]: b}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_too_much_or_no_yaml_is_refused_in_one_line(case: str) -> None:
    with pytest.raises(DocumentError) as raised:
        load(REFUSED[case])
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_refusing_takes_little_memory_and_time() -> None:
    """In a process of its own, that may take 200 MB more than the imports and five seconds of CPU."""
    script = "import sys; from definitions.documents import DocumentError, load\ntry: load(sys.stdin.read())\n"
    script += "except DocumentError: print('refused')"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
        resource.setrlimit(resource.RLIMIT_CPU, (5, 5))

    for case in ("sequences", "merge keys", "depth that is never closed"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=REFUSED[case],
            cwd=ROOT,
            capture_output=True,
            text=True,
            preexec_fn=limited,
        )
        assert done.stdout == "refused\n", case + done.stderr


def test_aliases_that_people_write_are_read() -> None:
    text = "defaults: &d {cpu: 1, memory: &m 2Gi}\nbig: {<<: *d, cpu: 4}\nlimit: *m\nmore: [*d, *d]\n"
    assert load(text) == {
        "defaults": {"cpu": 1, "memory": "2Gi"},
        "big": {"cpu": 4, "memory": "2Gi"},
        "limit": "2Gi",
        "more": [{"cpu": 1, "memory": "2Gi"}] * 2,
    }
    assert load("") is None
    assert load_all("a: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_an_error_names_the_line_and_repeats_nothing_of_it() -> None:
    with pytest.raises(DocumentError, match="line 2") as raised:
        load("config:\n  token: 'hunter2\n")
    assert "hunter2" not in str(raised.value)


BOMB = laughs(8)


def test_every_reader_refuses_what_multiplies(tmp_path: Path) -> None:
    """Stack files, in the command and in a plan; policies; parameters; manifests, in the engine and for the rules."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.x.yaml").write_text(f"config:\n  hybrid-mlops:x:\n{indented(BOMB)}")
    with pytest.raises(SettingsError, match="with its aliases"):
        load_settings("x", tmp_path / "stacks")
    with pytest.raises(PlanError, match="with its aliases"):
        record("x", root=tmp_path)
    (tmp_path / "x.yaml").write_text(BOMB)
    with pytest.raises(PolicyError, match="with its aliases"):
        load_policies("x", tmp_path)
    with pytest.raises(parameters.ParameterError, match="with its aliases"):
        parameters.load(tmp_path / "x.yaml")
    with pytest.raises(DefinitionError, match="with its aliases"):
        support.spark_application(BOMB, "here")
    assert workflows.read(BOMB) is None


def test_an_expression_counts_as_long_as_it_is() -> None:
    """Argo's expressions are put back after the YAML was read."""
    many = "a: &a '{{{{={}}}}}'\nb: [{}]\n".format("x" * 20_000, ", ".join(["*a"] * 100))
    assert workflows.read(many) is None
    assert workflows.read("a: '{{inputs.parameters.x}}-{{y}}'") == [{"a": "{{inputs.parameters.x}}-{{y}}"}]


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
