"""Every Nomad job file: described variables, defaults equal to parameters.yaml, nothing that splices or retrains."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from definitions.nomad import jobspec
from definitions.nomad.jobspec import Jobspec
from infra.settings import ROOT
from mlops import parameters
from mlops.parameters import Pipeline

FILES = sorted(ROOT.glob("jobs/*/job.nomad.hcl"))
assert FILES, "no job is there to be tested"
each_job = pytest.mark.parametrize("path", FILES, ids=[path.parent.name for path in FILES])
SHELLS = {"sh", "bash", "dash", "zsh", "ash", "busybox", "env", "xargs", "eval"}


def spec_of(path: Path) -> Jobspec:
    return jobspec.parse(path.read_text(encoding="utf-8"), path.name)


def pipeline_of(path: Path) -> Pipeline:
    return parameters.load(path.with_name("parameters.yaml"))


def groups(spec: Jobspec) -> Iterator[tuple[str, dict[str, Any]]]:
    for block in spec.body["group"]:
        yield from block.items()


def tasks(spec: Jobspec) -> Iterator[tuple[str, dict[str, Any]]]:
    for _, group in groups(spec):
        for block in group["task"]:
            yield from block.items()


def one(body: dict[str, Any], block: str) -> dict[str, Any]:
    (only,) = body[block]
    return only


def shell_splices(name: str, task: dict[str, Any]) -> list[str]:
    """Where a task's command line would have a shell, or anything else, read a run's parameters as its own language."""
    config = one(task, "config")
    words = [config.get("command"), *config.get("entrypoint", []), *config.get("args", [])]
    found = [f"{name}: starts a shell: {word}" for word in words if Path(str(word)).name in SHELLS]
    found += [f"{name}: {word} is spliced into a longer argument" for word in words if _splices(str(word))]
    templates = [str(template.get("data")) for template in task.get("template", [])]
    return found + [f"{name}: a template reads NOMAD_META_" for text in templates if "NOMAD_META_" in text]


def _splices(word: str) -> bool:
    return "NOMAD_META_" in word and not re.fullmatch(r"\$\{NOMAD_META_[a-z_]+\}", word)


@each_job
def test_every_variable_is_typed_and_described(path: Path) -> None:
    # A variable without a type is refused by the parser itself.
    assert [name for name, variable in spec_of(path).variables.items() if not variable.description.strip()] == []


@each_job
def test_only_images_have_no_default(path: Path) -> None:
    required = {name for name, variable in spec_of(path).variables.items() if variable.required}
    assert {name for name in required if not name.startswith("image_")} == set()


@each_job
def test_every_variable_is_used_and_declared(path: Path) -> None:
    used = set(re.findall(r"\bvar\.([a-z_0-9]+)", path.read_text(encoding="utf-8")))
    assert used == spec_of(path).variables.keys()


@each_job
def test_meta_is_what_parameters_yaml_declares(path: Path) -> None:
    spec, pipeline = spec_of(path), pipeline_of(path)
    parameterized = one(dict(spec.body), "parameterized")
    required = [name for name, parameter in pipeline.parameters.items() if parameter.required]
    assert sorted(parameterized["meta_required"]) == sorted(required)
    assert sorted(parameterized["meta_optional"]) == sorted(pipeline.parameters.keys() - set(required))
    # Without a default here an unset parameter is empty, or the text of the interpolation itself.
    assert spec.body.get("meta", [{}])[0] == {
        name: parameter.default_text for name, parameter in pipeline.parameters.items() if not parameter.required
    }


@each_job
def test_every_parameter_reaches_a_task(path: Path) -> None:
    used = set(re.findall(r"NOMAD_META_([a-z_]+)", path.read_text(encoding="utf-8")))
    assert used == pipeline_of(path).parameters.keys()


@each_job
def test_no_parameter_is_read_by_a_shell(path: Path) -> None:
    assert [line for name, task in tasks(spec_of(path)) for line in shell_splices(name, task)] == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"command": "/bin/bash", "args": ["-c", "true"]}, ["t: starts a shell: /bin/bash"]),
        ({"entrypoint": ["sh"]}, ["t: starts a shell: sh"]),
        (
            {"command": "x", "args": ["--out=${NOMAD_META_a}"]},
            ["t: --out=${NOMAD_META_a} is spliced into a longer argument"],
        ),
        ({"command": "x", "args": ["${NOMAD_META_a}"]}, []),
    ],
)
def test_a_shell_is_found(config: dict[str, Any], expected: list[str]) -> None:
    assert shell_splices("t", {"config": [config]}) == expected


@each_job
def test_every_task_has_the_limits_that_no_rule_asks_for(path: Path) -> None:
    """`policy/rules/nomad.py` holds every stack to the others, and to how a run may be replaced."""
    for name, task in tasks(spec_of(path)):
        config = one(task, "config")
        assert {"max_files", "max_file_size"} <= one(task, "logs").keys(), f"{name}: logs, both limits"
        assert task.get("kill_timeout"), f"{name}: kill_timeout"
        assert config.get("network_mode", "none") == "none", name
        if task["driver"] == "docker":
            assert re.match(r"(\$\{)?var\.image_", str(config.get("image"))), f"{name}: image is a variable image_*"
            assert config.get("pids_limit", 0) > 0, f"{name}: pids_limit"


@each_job
def test_the_readme_has_the_table_of_parameters(path: Path) -> None:
    rows = [
        f"| `{name}` | `{p.range_text}` | "
        f"{'required' if p.required else f'`{p.default_text}`' if p.default_text else 'empty'} | {p.description} |"
        for name, p in pipeline_of(path).parameters.items()
    ]
    text = path.with_name("README.md").read_text(encoding="utf-8")
    table = text.partition("| parameter | values | default | what it is |\n| --- | --- | --- | --- |\n")[2]
    assert table.partition("\n\n")[0].splitlines() == rows, "the table is to be:\n" + "\n".join(rows)


def test_sales_close_prediction_is_the_articles_job() -> None:
    spec = spec_of(ROOT / "jobs" / "sales_close_prediction" / "job.nomad.hcl")
    assert one(dict(spec.body), "parameterized") == {
        "payload": "forbidden",
        "meta_required": ["save_path", "data_path", "prediction_path", "data_url", "gcp_bucket_path", "model_version"],
        "meta_optional": ["batch_size", "epochs", "learning_rate", "seed", "min_auc"],
    }
    assert (spec.variables["train_cpu"].default, spec.variables["train_memory"].default) == (3054, 1024)
    ((_, group),) = groups(spec)
    assert group["count"] == "${var.count}"
    assert one(group, "volume") == {
        "models": {"type": "host", "source": "models", "access_mode": "single-node-multi-writer"}
    }
    by_name = dict(tasks(spec))
    assert [(name, task["driver"], task.get("lifecycle")) for name, task in by_name.items()] == [
        ("train", "docker", [{"hook": "prestart", "sidecar": False}]),
        ("store", "exec", None),
        ("verify", "docker", None),
        ("clear", "docker", [{"hook": "poststop", "sidecar": False}]),
    ]
    assert [name for name, task in by_name.items() if task.get("leader")] == ["store"]
    version_id = "${NOMAD_META_save_path}_v${NOMAD_META_model_version}_${NOMAD_ALLOC_ID}"
    for name in ("train", "store", "clear"):
        task = by_name[name]
        assert one(task, "volume_mount") == {"volume": "models", "destination": "/models"}, name
        env = one(task, "env")
        assert env["RUN_DIR"] == f"/models/{version_id}", name
        assert env.get("VERSION_ID", version_id) == version_id, name
    shared = "${NOMAD_ALLOC_DIR}/data"
    store, verify, clear = (one(by_name[name], "config") for name in ("store", "verify", "clear"))
    assert (store["command"], store["args"][:3]) == ("mlops-registry", ["store", "--verify-in", shared])
    scored = ["score", "--input", f"{shared}/version", "--output", f"{shared}/scored"]
    assert (verify["entrypoint"], verify["args"][:5]) == (["mlops-registry"], scored)
    assert (clear["entrypoint"], clear["args"]) == (["mlops-registry"], ["clear"])
    assert one(by_name["train"], "config")["args"] == ["train"]
    template = one(by_name["train"], "template")
    assert template["destination"].startswith("${NOMAD_SECRETS_DIR}/")
    assert 'nomadVarExists \\"nomad/jobs/sales-close-prediction\\"' in template["data"]


def test_one_task_alone_is_somebody_and_it_loads_no_model() -> None:
    by_name = dict(tasks(spec_of(ROOT / "jobs" / "sales_close_prediction" / "job.nomad.hcl")))
    assert [name for name, task in by_name.items() if "identity" in task] == ["store"]
    # What is loaded is code: it finds nothing to read but the version, and nobody to tell.
    verify = by_name["verify"]
    assert not verify.keys() & {"identity", "template", "vault", "consul", "volume_mount", "artifact"}
    assert one(verify, "config")["network_mode"] == "none"
    assert one(verify, "env").keys() == {"TMPDIR", "MLOPS_CONFINEMENT"}
