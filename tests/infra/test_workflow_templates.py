"""The component of workflow templates: it fills every pipeline's context, and registers what is rendered."""

import copy
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import images, kubeconfig, naming, pipelines, providers, settings
from infra.settings import ROOT, Settings, SettingsError
from infra.workloads.workflow_templates import WorkflowTemplates
from inventory.recorder import record
from inventory.resources import Inventory, Resource
from tests.argo import checks
from tests.stack_inventories import inventory

TEMPLATE = "kubernetes:argoproj.io/v1alpha1:WorkflowTemplate"
CRON = "kubernetes:argoproj.io/v1alpha1:CronWorkflow"
FOLDER = "small_flow"
JOB = "hybrid-mlops:jobs.small-flow"

CONTEXT = """\
from collections.abc import Mapping
from dataclasses import dataclass, field

IMAGES = ("tensornode",)


@dataclass(frozen=True)
class Size:
    cpu: str
    memory: str


@dataclass(frozen=True)
class Context:
    namespace: str
    images: Mapping[str, str]
    gcp_bucket_path: str
    data_bucket: str
    artifact_bucket: str
    service_accounts: Mapping[str, str]
    labels: Mapping[str, str]
    resources: Mapping[str, Size] = field(default_factory=dict)
    schedules: tuple[str, ...] = ()
    threads: int = 1
    data_uri: str = ""

    def __post_init__(self):
        if self.schedules and not self.data_uri:
            raise ValueError("schedules: data_uri is empty")
        if not self.service_accounts.get("trainer"):
            raise ValueError("service_accounts: trainer missing; nothing can be rendered without")
"""
TEMPLATES = """\
def render(context):
    train = {
        "name": "train",
        "serviceAccountName": context.service_accounts["trainer"],
        "container": {
            "image": context.images["tensornode"],
            "args": [context.gcp_bucket_path, context.data_bucket, context.artifact_bucket, str(context.threads)],
            "resources": {"requests": {"cpu": context.resources["train"].cpu}} if context.resources else {},
        },
    }
    metadata = {"name": "small-flow", "namespace": context.namespace, "labels": dict(context.labels)}
    spec = {
        "entrypoint": "train",
        "arguments": {"parameters": [{"name": "data_uri"}, {"name": "epochs", "value": "5"}]},
        "templates": [train],
    }
    api = {"apiVersion": "argoproj.io/v1alpha1", "metadata": metadata}
    cron = {"schedules": list(context.schedules), "workflowSpec": {"workflowTemplateRef": {"name": "small-flow"}}}
    # The schedule first: it is the program that puts it after what it starts.
    crons = [{**api, "kind": "CronWorkflow", "spec": cron}] if context.schedules else []
    return [*crons, {**api, "kind": "WorkflowTemplate", "spec": spec}]
"""


@pytest.fixture
def flow(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with a small pipeline for Argo, whose modules are this test's own."""
    folder = tree / "jobs" / FOLDER
    folder.mkdir()
    (folder / "context.py").write_text(CONTEXT)
    (folder / "templates.py").write_text(TEMPLATES)
    monkeypatch.syspath_prepend(str(tree))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    yield tree
    for name in [name for name in sys.modules if name.startswith(f"jobs.{FOLDER}")]:
        del sys.modules[name]


def stack(tree: Path, **job: Any) -> Settings:
    """Stack local with settings of the small pipeline, in its file too."""
    path = tree / "stacks" / "Pulumi.local.yaml"
    document = yaml.safe_load(path.read_text())
    document["config"]["hybrid-mlops:jobs"]["small-flow"] = job
    path.write_text(yaml.safe_dump(document))
    return settings.load("local", tree / "stacks")


def told(tree: Path, given: Settings) -> str:
    """The one line by which it is refused."""
    with pytest.raises(SettingsError) as raised:
        WorkflowTemplates("workflow-templates", root=tree, settings=given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_pipeline_is_found_filled_and_registered(flow: Path) -> None:
    stack(
        flow,
        variables={"threads": 3, "schedules": ["0 3 * * 0"]},
        resources={"train": {"cpu": 2, "memory": "4Gi"}},
        parameters={"data_uri": "gs://hybrid-mlops-local-data/raw/x"},
    )
    inventory = record("local", root=flow, preview=True)
    (template,), (cron,) = inventory.of_type(TEMPLATE), inventory.of_type(CRON)
    (component,) = inventory.of_type("hybrid-mlops:workloads:WorkflowTemplates")
    for resource in (template, cron):
        assert resource.name == resource.inputs["metadata"]["name"] == "small-flow"
        assert resource.parent == component.urn
        assert resource.provider == inventory.of_type("pulumi:providers:kubernetes")[0].urn
    assert cron.dependencies == [template.urn], "a schedule never starts what is not there"
    assert template.inputs["metadata"] == {
        "name": "small-flow",
        "namespace": "mlops",
        "labels": {"app.kubernetes.io/managed-by": "pulumi", "app.kubernetes.io/part-of": "hybrid-mlops"},
    }
    (train,) = template.inputs["spec"]["templates"]
    assert train["serviceAccountName"] == "trainer"
    assert train["container"] == {
        "image": images.name(flow, "tensornode", "hybrid-mlops.local"),
        "args": [
            "gs://hybrid-mlops-local-models/models",
            "hybrid-mlops-local-data",
            "hybrid-mlops-local-artifacts",
            "3",
        ],
        "resources": {"requests": {"cpu": "2"}},
    }
    assert template.inputs["spec"]["arguments"]["parameters"] == [
        {"name": "data_uri", "value": "gs://hybrid-mlops-local-data/raw/x"},
        {"name": "epochs", "value": "5"},
    ], "the stack's defaults are the template's"
    assert inventory.outputs["workflow_templates"] == ["WorkflowTemplate/small-flow", "CronWorkflow/small-flow"]


BAD_SETTINGS = [
    (
        {"variables": {"thread": 2}},
        (
            f"{JOB}.variables.thread: jobs/{FOLDER}/context.py has no such field, so it would do nothing; did you mean "
            "'threads'?"
        ),
    ),
    (
        {"variables": {"threads": "many"}},
        (
            f"{JOB}.variables.threads: input should be a valid integer, unable to parse string as an integer, so the "
            "templates cannot be rendered; correct it"
        ),
    ),
    (
        {"variables": {"namespace": "x"}},
        (
            f"{JOB}.variables.namespace: the program sets it, so this would be lost; set "
            "hybrid-mlops:kubernetes.namespace instead"
        ),
    ),
    (
        {"variables": {"data_uri": "gs://x/y"}},
        f"{JOB}.variables.data_uri: the program sets it, so this would be lost; set {JOB}.parameters.data_uri instead",
    ),
    (
        {"parameters": {"epoch": 5}},
        (
            f"{JOB}.parameters.epoch: the WorkflowTemplate small-flow takes no such parameter, so it would do nothing; "
            "did you mean 'epochs'?"
        ),
    ),
]


@pytest.mark.parametrize(("job", "message"), BAD_SETTINGS)
def test_settings_that_the_pipeline_cannot_use_are_told(flow: Path, job: dict[str, Any], message: str) -> None:
    assert told(flow, stack(flow, **job)) == message


def test_what_a_context_refuses_is_told(flow: Path) -> None:
    assert told(flow, stack(flow, variables={"schedules": ["@daily"]})) == (
        f"jobs/{FOLDER}/context.py: schedules: data_uri is empty; the stack sets it in hybrid-mlops:kubernetes or {JOB}"
    )


def test_a_service_account_that_is_missing_is_told(flow: Path) -> None:
    given = stack(flow)
    assert given.kubernetes
    less = given.kubernetes.model_copy(update={"service_accounts": {"spark": "spark"}})
    assert told(flow, given.model_copy(update={"kubernetes": less})) == (
        f"jobs/{FOLDER}/context.py: service_accounts: trainer missing; nothing can be rendered without; the stack sets "
        f"it in hybrid-mlops:kubernetes or {JOB}"
    )


BAD_TEMPLATES = [
    (
        '"kind": "WorkflowTemplate"',
        '"kind": "Workflow"',
        (
            "renders argoproj.io/v1alpha1 Workflow, which would run at every `up` or be nothing to Argo; render only "
            "WorkflowTemplate and CronWorkflow of argoproj.io/v1alpha1"
        ),
    ),
    (
        '"name": "small-flow", "namespace"',
        '"generateName": "small-flow-", "namespace"',
        "renders a WorkflowTemplate without a name, so it cannot be referred to; give it one",
    ),
    (
        "context.namespace",
        '"default"',
        (
            "WorkflowTemplate small-flow is not in the namespace mlops, so its templates would not find each other; "
            "render it with the context's namespace"
        ),
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_TEMPLATES)
def test_what_must_not_be_registered_is_told(flow: Path, old: str, new: str, message: str) -> None:
    file = flow / "jobs" / FOLDER / "templates.py"
    file.write_text(file.read_text().replace(old, new))
    assert told(flow, stack(flow)) == f"jobs/{FOLDER}/templates.py: {message}"


def test_an_image_that_is_not_there_is_told(flow: Path) -> None:
    file = flow / "jobs" / FOLDER / "context.py"
    file.write_text(file.read_text().replace('("tensornode",)', '("other",)'))
    assert told(flow, stack(flow)) == (
        f"jobs/{FOLDER}/context.py: images/other has no Dockerfile, so the image has no name; write "
        "images/other/Dockerfile"
    )


def test_templates_without_a_context_are_told(flow: Path) -> None:
    (flow / "jobs" / FOLDER / "context.py").unlink()
    assert told(flow, stack(flow)) == (
        f"jobs/{FOLDER}/templates.py: has no context.py beside it, so it cannot be told of the stack; write one with a "
        "dataclass Context and the list IMAGES"
    )


@pytest.mark.parametrize(
    ("job_id", "job", "kubernetes", "message"),
    [
        ("small-flow", {"count": 2}, True, f"{JOB}.count: only Nomad jobs have a count"),
        ("small-flow", {"parameters": {"epochs": 1}}, False, f"{JOB}: its workflow templates are registered on stacks"),
        (
            "sales-close-prediction",
            {"resources": {"train": {"cpu": 1, "memory": "1Gi"}}},
            True,
            "hybrid-mlops:jobs.sales-close-prediction.resources: a Nomad job has its sizes in HCL variables",
        ),
    ],
)
def test_settings_of_the_other_engine_are_told(
    flow: Path, job_id: str, job: dict[str, Any], kubernetes: bool, message: str
) -> None:
    values = {
        "images": {"repository": "example.com/images"},
        "buckets": {"models": "models", "data": "data", "artifacts": "artifacts"},
        "jobs": {job_id: job},
    }
    if kubernetes:
        values["kubernetes"] = {"namespace": "mlops", "service_accounts": {}}
    with pytest.raises(SettingsError) as raised:
        pipelines.check(flow, settings.parse(values, "stack.yaml"))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_without_a_cluster_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(SettingsError) as raised:
        providers.kubernetes(settings.load("local"))
    assert str(raised.value) == (
        "hybrid-mlops:kubernetes.context: this stack names no cluster and KUBECONFIG is not set, so there is nothing "
        "to register workflow templates with; set either, remove hybrid-mlops:kubernetes, or run `mlops up` for the "
        "embedded engine"
    )


def _kubeconfig(path: Path, current: str | None, *names: str) -> str:
    path.write_text(yaml.safe_dump({"current-context": current, "contexts": [{"name": name} for name in names]}))
    return str(path)


@pytest.mark.parametrize(
    ("write", "wanted", "said"),
    [
        (lambda path: f"{_kubeconfig(path, 'a', 'a')}:/other", None, "KUBECONFIG names more than one file"),
        (lambda path: f"{path}/none", None, "cannot be read (No such file or directory)"),
        (lambda path: str(path.parent), None, "cannot be read (Is a directory)"),
        (lambda path: _kubeconfig(path, None, "a"), None, "has no current context"),
        (lambda path: _kubeconfig(path, "b", "a"), None, "has no context b"),
        (lambda path: _kubeconfig(path, "a", "a"), "other", "has no context other, so there is no cluster"),
        (lambda path: path.write_text("[1]") and str(path), None, "is no kubeconfig"),
        (lambda path: path.write_text("a: [") and str(path), None, "is not YAML"),
        (lambda path: path.write_bytes(b"\xff") and str(path), None, "is no text"),
    ],
)
def test_a_kubeconfig_that_names_no_cluster_is_refused_in_one_line(
    write: Any, wanted: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulumi's preview would pass, and `up` would fail, or register nothing."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path / "kubeconfig"))
    with pytest.raises(SettingsError) as raised:
        kubeconfig.context(wanted)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_path_of_a_kubeconfig_is_registered_and_the_current_context_is_by_its_name(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is registered is state: of whoever was there last."""
    (provider,) = record("local", root=tree).of_type("pulumi:providers:kubernetes")
    assert provider.inputs == {"context": "current", "namespace": "mlops"}
    monkeypatch.setenv("KUBECONFIG", _kubeconfig(tmp_path / "kubeconfig", "second", "first", "second"))
    assert kubeconfig.context(None) == "second"
    with kubeconfig.out_of_the_state():
        assert "KUBECONFIG" not in os.environ
    assert os.environ["KUBECONFIG"] == str(tmp_path / "kubeconfig")


def test_a_stack_without_the_section_has_nothing_of_kubernetes(tree: Path) -> None:
    path = tree / "stacks" / "Pulumi.local.yaml"
    document = yaml.safe_load(path.read_text())
    del document["config"]["hybrid-mlops:kubernetes"]
    path.write_text(yaml.safe_dump(document))
    program = tree / "__main__.py"
    program.write_text(program.read_text() + "import sys\npulumi.export('modules', list(sys.modules))\n")
    inventory = record("local", root=tree)
    assert [resource.type for resource in inventory.resources if "kubernetes" in resource.type] == []
    assert [name for name in inventory.outputs["modules"] if name.startswith(("pulumi_kubernetes", "hera"))] == []


def test_the_stacks_context_is_the_providers(tree: Path) -> None:
    path = tree / "stacks" / "Pulumi.local.yaml"
    document = yaml.safe_load(path.read_text())
    document["config"]["hybrid-mlops:kubernetes"]["context"] = "gke_project_region_cluster"
    path.write_text(yaml.safe_dump(document))
    (provider,) = record("local", root=tree).of_type("pulumi:providers:kubernetes")
    assert provider.inputs["context"] == "gke_project_region_cluster"


@pytest.fixture(scope="module", params=settings.stacks())
def registered(request: pytest.FixtureRequest) -> tuple[Settings, Inventory, list[Resource]]:
    """Every stack with a cluster: its settings, its inventory, and the definitions in it."""
    given = settings.load(request.param)
    if given.kubernetes is None:
        pytest.skip("a stack without a cluster")
    recorded = inventory(request.param)
    return given, recorded, recorded.of_type(TEMPLATE) + recorded.of_type(CRON)


def test_a_stacks_templates_have_no_unknown_or_removed_field(
    registered: tuple[Settings, Inventory, list[Resource]],
) -> None:
    objects = copy.deepcopy([resource.inputs for resource in registered[2]])
    assert objects
    assert checks.typed(objects) + checks.removed(objects) + checks.spark(objects) == []
    objects[0]["spec"]["resorce"] = 1
    assert checks.typed(objects) == [f"WorkflowTemplate {objects[0]['metadata']['name']}: .spec.resorce is not a field"]


def test_what_a_stacks_templates_name_is_the_stacks(registered: tuple[Settings, Inventory, list[Resource]]) -> None:
    given, _, resources = registered
    assert given.kubernetes
    objects = [resource.inputs for resource in resources]
    found: dict[str, set[str]] = {"accounts": set(), "images": set(), "buckets": set()}
    manifests = [manifest for _, manifest in checks.spark_manifests(objects)]
    for path, value in (pair for one in [*objects, *manifests] for pair in checks.paths(one)):
        if path.endswith((".serviceAccountName", ".serviceAccount")):
            found["accounts"].add(value)
        elif path.endswith(".image"):
            found["images"].add(value)
        elif isinstance(value, str) and value.startswith("gs://"):
            found["buckets"].add(value.split("/")[2])
    folders = [path.parent.name for path in ROOT.glob("images/*/Dockerfile")]
    named = {images.name(ROOT, folder, naming.image_repository(given)) for folder in folders}
    assert found["accounts"] == set(given.kubernetes.service_accounts.values())
    assert found["images"]
    assert found["images"] <= named
    assert found["buckets"] == {given.buckets.models, given.buckets.artifacts}
    assert {one["metadata"]["namespace"] for one in objects} == {given.kubernetes.namespace}
