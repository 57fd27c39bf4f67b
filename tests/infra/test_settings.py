"""Settings: every stack file is good, every mistake is told in one line with key, problem, consequence and fix."""

import contextvars
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from infra import settings
from infra.settings import SettingsError

GOOD: dict[str, Any] = {
    "nomad": {"address": "https://nomad.example.com:4646"},
    "images": {"repository": "europe-docker.pkg.dev/project/images"},
    "buckets": {"models": "example-models", "data": "example-data", "artifacts": "example-artifacts"},
    "kubernetes": {
        "context": "gke_project_region_cluster",
        "namespace": "mlops",
        "service_accounts": {"trainer": "refit-trainer"},
        "pools": {"h2o": {"node_selector": {"pool": "h2o"}, "tolerations": [{"key": "pool", "value": "h2o"}]}},
        "maven_repository": "https://maven.example.com/models",
    },
    "jobs": {
        "model-refit": {"resources": {"train": {"cpu": 2, "memory": "4Gi"}}, "variables": {"schedules": ["0 3 * * 0"]}},
        "sales-close-prediction": {
            "count": 2,
            "variables": {"train_cpu": 1000, "salesforce_hosts": ["login.example.com"], "on": True},
            "parameters": {"epochs": 5, "learning_rate": 0.01, "save_path": "sales"},
        },
    },
}
JOB = "stack.yaml: hybrid-mlops:jobs.sales-close-prediction"

# (what is changed in GOOD, as a path and a value; None deletes) -> the message.
BAD = [
    (
        "nomad.address",
        "nomad.example.com",
        "stack.yaml: hybrid-mlops:nomad.address: string should match pattern",
        "Address of an existing Nomad, such as https://nomad.example.com:4646.",
    ),
    ("nomad.adress", "x", "stack.yaml: hybrid-mlops:nomad.adress: is no setting, so it would do nothing", "'address'?"),
    ("nomad.address", "https://user:secret@nomad", "stack.yaml: hybrid-mlops:nomad.address: ", "correct it"),
    (
        "jobs.sales-close-prediction.parameters.data_url",
        "https://example.com/x.csv?access_token=abc",
        "stack.yaml: hybrid-mlops:jobs.sales-close-prediction.parameters.data_url: holds a credential",
        "give an address that needs none",
    ),
    ("nomda", {}, "stack.yaml: hybrid-mlops:nomda: is no setting, so it would do nothing", "did you mean 'nomad'?"),
    ("zzz", 1, "stack.yaml: hybrid-mlops:zzz: is no setting", "use one of: gcp, network, storage, keys, nomad"),
    ("images", None, "stack.yaml: hybrid-mlops:images.repository: is missing, so images have no names", "by `gcp`"),
    ("images", "docker.io", "stack.yaml: hybrid-mlops:images: input should be a valid dictionary", "correct it (Where"),
    ("images.repository", "", "stack.yaml: hybrid-mlops:images.repository: string should match", "such as europe-"),
    ("buckets.models", "Models!", "stack.yaml: hybrid-mlops:buckets.models: string should match", "example-models."),
    ("buckets.data", None, "stack.yaml: hybrid-mlops:buckets.data: is missing", "such as example-data."),
    ("buckets.modles", "x", "stack.yaml: hybrid-mlops:buckets.modles: is no setting", "did you mean 'models'?"),
    ("jobs.Sales_Close", {}, "stack.yaml: hybrid-mlops:jobs: 'Sales_Close' cannot be a name here", "write one that"),
    ("jobs.sales-close-prediction.count", 0, f"{JOB}.count: input should be greater than or equal to 1", "Allocations"),
    ("jobs.sales-close-prediction.count", "many", f"{JOB}.count: input should be a valid integer", "Allocations"),
    ("jobs.sales-close-prediction.cuont", 2, f"{JOB}.cuont: is no setting", "did you mean 'count'?"),
    ("buckets.artifacts", None, "stack.yaml: hybrid-mlops:buckets.artifacts: is missing", "hand anything on"),
    ("kubernetes.namespace", None, "stack.yaml: hybrid-mlops:kubernetes.namespace: is missing", "add it (Namespace of"),
    ("kubernetes.namespace", "Mlops", "stack.yaml: hybrid-mlops:kubernetes.namespace: string should", "it exists"),
    ("kubernetes.contxt", "x", "stack.yaml: hybrid-mlops:kubernetes.contxt: is no setting", "did you mean 'context'?"),
    ("kubernetes.service_accounts.spark", "a b", "stack.yaml: hybrid-mlops:kubernetes.service_accounts.spark", "role"),
    ("kubernetes.pools.h2o.node_selectr", {}, "stack.yaml: hybrid-mlops:kubernetes.pools.h2o.node_selectr", "mean"),
    (
        "kubernetes.pools.h2o.tolerations",
        [{"key": "pool", "effect": "Never"}],
        "stack.yaml: hybrid-mlops:kubernetes.pools.h2o.tolerations.0.effect: input should be 'NoSchedule'",
        "The taint's effect.",
    ),
    (
        "kubernetes.maven_repository",
        "https://user:secret@maven.example.com",
        "stack.yaml: hybrid-mlops:kubernetes.maven_repository: string should match",
        "URL of the Maven repository",
    ),
    (
        "jobs.model-refit.resources.train.memory",
        "4 GB",
        "stack.yaml: hybrid-mlops:jobs.model-refit.resources.train.memory: string should match",
        "such as 2Gi",
    ),
    (
        "jobs.sales-close-prediction.variables.train_cpu",
        {"mhz": 1},
        f"{JOB}.variables.train_cpu: should be text, a number",
        "HCL variables",
    ),
    (
        "jobs.sales-close-prediction.parameters.epochs",
        [1],
        f"{JOB}.parameters.epochs: input should be a valid string",
        "defaults",
    ),
    ("nomad.ca_pem", "MIIB", "stack.yaml: hybrid-mlops:nomad.ca_pem: string should match", "correct it"),
    ("kubernetes.context", "a b", "stack.yaml: hybrid-mlops:kubernetes.context: string should match", "correct it"),
    (
        "kubernetes.pools.h2o.tolerations",
        [{"key": "a pool", "value": "h2o"}],
        "stack.yaml: hybrid-mlops:kubernetes.pools.h2o.tolerations.0.key: string should match",
        "The taint's key.",
    ),
    (
        "kubernetes.pools.h2o.node_selector.pool",
        "h 2o",
        "stack.yaml: hybrid-mlops:kubernetes.pools.h2o.node_selector.pool: string should match",
        "Labels that the nodes have.",
    ),
    (
        "jobs.model-refit.resources.train.cpu",
        "two",
        "stack.yaml: hybrid-mlops:jobs.model-refit.resources.train.cpu: string should match",
        "such as 2 or 500m",
    ),
    ("jobs.sales-close-prediction.variables.Train", 1, f"{JOB}.variables: 'Train' cannot be a name here", "write one"),
]


def changed(path: str, value: Any) -> dict[str, Any]:
    values = json.loads(json.dumps(GOOD))
    *above, last = path.split(".")
    inner = values
    for key in above:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values


def test_settings_are_read() -> None:
    read = settings.parse(GOOD, "stack.yaml")
    job = read.jobs["sales-close-prediction"]
    assert (read.nomad.address, job.count) == ("https://nomad.example.com:4646", 2)
    assert job.variables == {"train_cpu": 1000, "salesforce_hosts": ["login.example.com"], "on": True}
    assert job.variables["on"] is True
    # A run's parameters are text, whatever YAML makes of them.
    assert read.jobs["model-refit"].resources["train"].cpu == "2"
    assert job.parameters == {"epochs": "5", "learning_rate": "0.01", "save_path": "sales"}


@pytest.mark.parametrize(("path", "value", "begins", "says"), BAD)
def test_a_mistake_is_told_in_one_line(path: str, value: Any, begins: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.parse(changed(path, value), "stack.yaml")
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith(begins)
    assert says in line
    assert ", so " in line
    assert "; " in line


def test_every_mistake_has_its_line() -> None:
    with pytest.raises(SettingsError) as raised:
        settings.parse({"buckets": {"models": "m", "data": "example-data"}, "nomda": {}}, "stack.yaml")
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "hybrid-mlops:buckets.models",
        "hybrid-mlops:nomda",
    ]


def test_settings_cannot_be_changed() -> None:
    read = settings.parse(GOOD, "stack.yaml")
    with pytest.raises(ValueError, match="frozen"):
        read.nomad.address = "http://elsewhere"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("stack", settings.stacks())
def test_every_stack_file_is_good(stack: str) -> None:
    assert settings.load(stack).buckets.models


@pytest.mark.parametrize("stack", settings.stacks())
def test_every_stack_file_names_its_schema(stack: str) -> None:
    first = (settings.STACKS / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8").splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (settings.STACKS / schema).resolve() == settings.ROOT / "docs" / "reference" / "stack.schema.json"


def test_the_table_of_keys_is_whole() -> None:
    written = (settings.ROOT / "docs" / "reference" / "stack-settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", written, re.MULTILINE))
    described = [field.description for model in _models(settings.Settings) for field in model.model_fields.values()]
    assert all(described), "every setting is described"
    assert len(rows) >= len(described) - len(settings.Settings.model_fields)
    assert all(text.strip() for text in rows.values())
    assert "| **set** |" in next(line for line in written.splitlines() if "`gcp.project_number`" in line)


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and all that are below it."""
    return {model}.union(
        *(_models(below) for field in model.model_fields.values() for below in _below(field.annotation))
    )


def _below(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _below(part)]


@pytest.mark.parametrize("name", ["nope", "../stacks/local", "", "local\n"])
def test_a_stack_that_is_not_there_is_told(name: str) -> None:
    there = ", ".join(settings.stacks())
    with pytest.raises(SettingsError, match=rf"^there is no stack '.*', so nothing was read; there are: {there}$"):
        settings.load(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config: [", "stacks/Pulumi.broken.yaml: is not YAML, so nothing was read; correct it: "),
        ("- a list", "stacks/Pulumi.broken.yaml: has no map named config, so nothing was read"),
        ("config: text", "stacks/Pulumi.broken.yaml: has no map named config, so nothing was read"),
        ("config: {}", "stacks/Pulumi.broken.yaml: hybrid-mlops:buckets: is missing"),
    ],
)
def test_a_file_that_is_no_stack_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "Pulumi.broken.yaml").write_text(text)
    with pytest.raises(SettingsError) as raised:
        settings.load("broken", tmp_path)
    assert str(raised.value).splitlines()[0].startswith(message)


def test_other_namespaces_are_left_to_their_owners(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.other.yaml").write_text(
        yaml.safe_dump(
            {
                "secretsprovider": "gcpkms://key",
                "config": {"gcp:project": "p", **{f"hybrid-mlops:{key}": value for key, value in GOOD.items()}},
            }
        )
    )
    assert settings.load("other", tmp_path) == settings.parse(GOOD, "")


def test_encrypted_values_are_replaced_by_placeholders(tmp_path: Path) -> None:
    config = {
        "a:token": {"secure": "v1:x"},
        "a:map": {"list": [{"secure": "v1:y"}, 1]},
        "a:plain": {"secure": 1, "b": 2},
    }
    (tmp_path / "Pulumi.s.yaml").write_text(yaml.safe_dump({"config": config}))
    assert settings.read_config("s", tmp_path) == (
        {
            "a:token": "[secret a:token]",
            "a:map": {"list": ["[secret a:map.list.0]", 1]},
            "a:plain": {"secure": 1, "b": 2},
        },
        {"a:token", "a:map"},
    )


def with_line(folder: Path, below: str, line: str) -> Path:
    """The stack `local`'s file with one more line, as deep as the one that it follows."""
    text = (settings.STACKS / "Pulumi.local.yaml").read_text()
    (found,) = (each for each in text.splitlines() if each.lstrip().startswith(below))
    indent = found[: len(found) - len(found.lstrip())]
    (folder / "Pulumi.local.yaml").write_text(text.replace(found, f"{found}\n{indent}{line}", 1))
    return folder


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("1.10", "1.1"),
        ("010", "8"),
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("12:30:45", "45045"),
        ("yes", "true"),
        ("Off", "false"),
        (".5", "0.5"),
        ("1.0e+3", "1000.0"),
        (".inf", "inf"),
        ("2026-11-30", "a date"),
    ],
)
def test_a_text_that_yaml_reads_as_another_value_is_refused(tmp_path: Path, written: str, made: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.load("local", with_line(tmp_path, "save_path:", f"model_version: {written}"))
    message = str(raised.value)
    assert message.startswith(
        "stacks/Pulumi.local.yaml: hybrid-mlops:jobs.sales-close-prediction.parameters.model_version"
    )
    assert f"{made} to YAML" in message
    assert "put it into quotes" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("'1.10'", "1.10"),
        ('"yes"', "yes"),
        ("1.1", "1.1"),
        ("7", "7"),
        ("true", "true"),
        ("0.00001", "0.00001"),
        ("1e3", "1e3"),
    ],
)
def test_a_number_whose_text_is_the_written_one_is_a_text(tmp_path: Path, written: str, text: str) -> None:
    loaded = settings.load("local", with_line(tmp_path, "save_path:", f"model_version: {written}"))
    assert loaded.jobs["sales-close-prediction"].parameters["model_version"] == text


@pytest.mark.parametrize(("written", "value"), [("0.50", 0.5), ("True", True), ("1000", 1000), ("'010'", "010")])
def test_a_number_of_a_jobspec_is_read_as_a_number(tmp_path: Path, written: str, value: object) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text(with_variable(written))
    assert settings.load("local", tmp_path).jobs["other"].variables["a"] == value


@pytest.mark.parametrize("written", ["010", "1:30", "yes", "1_000"])
def test_a_value_of_a_jobspec_that_only_old_yaml_reads_so_is_refused(tmp_path: Path, written: str) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text(with_variable(written))
    with pytest.raises(SettingsError, match=r"hybrid-mlops:jobs\.other\.variables\.a: .*put it into quotes"):
        settings.load("local", tmp_path)


def with_variable(written: str) -> str:
    """A stack file in which a job has a variable, and what else a stack needs."""
    values = {key: value for key, value in GOOD.items() if key != "jobs"}
    return yaml.safe_dump({"config": {f"hybrid-mlops:{key}": value for key, value in values.items()}}) + (
        f"  hybrid-mlops:jobs: {{other: {{variables: {{a: {written}}}}}}}\n"
    )


def test_pulumi_is_told_of_a_text_that_its_own_yaml_reads_as_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulumi hands over what it read of the file: the number, and not how it was written."""
    import pulumi
    from pulumi.runtime import set_all_config

    from infra.settings import reading

    monkeypatch.setattr(reading, "STACKS", with_line(tmp_path, "save_path:", "model_version: 1.10"))
    monkeypatch.setattr(reading, "stacks", lambda: ["local"])
    monkeypatch.setattr(pulumi, "get_stack", lambda: "local")
    job = {**GOOD["jobs"]["sales-close-prediction"], "parameters": {"model_version": 1.1}}
    given = {**GOOD, "jobs": {"sales-close-prediction": job}}

    def read() -> None:
        set_all_config({f"hybrid-mlops:{key}": json.dumps(value) for key, value in given.items()})
        settings.from_pulumi()

    with pytest.raises(SettingsError, match=r"model_version: 1\.10 .*put it into quotes"):
        contextvars.copy_context().run(read)
