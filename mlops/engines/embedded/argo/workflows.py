"""The Argo part of the embedded engine: registered definitions, submitted workflows, and what is asked of them.

Owns: what is registered, which workflow runs, what is remembered of it across restarts, and that a name is used once.
Deliberately
not: how a workflow is run (`run`), and HTTP (`api`).
"""

import asyncio
import copy
import logging
import re
import secrets
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.engines.embedded.argo import fields
from mlops.engines.embedded.argo.artifacts import Repository
from mlops.engines.embedded.argo.cache import Cache
from mlops.engines.embedded.argo.run import Execution
from mlops.engines.embedded.argo.step import Steps
from mlops.engines.embedded.argo.workflow import Workflow
from mlops.engines.embedded.errors import EmbeddedError, NotFoundError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.state import Store

_log = logging.getLogger(__name__)
_WORKFLOW = "workflow"
_REPOSITORY = "artifact-repository"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
KINDS = ("WorkflowTemplate", "CronWorkflow")

Definition = dict[str, Any]


class ExistsError(EmbeddedError):
    """There is one of that name already."""

    status = 409


class Workflows:
    """All workflows of one platform."""

    def __init__(self, machine: Machine, store: Store) -> None:
        self._machine = machine
        self._store = store
        self._running: dict[str, tuple[Workflow, Execution, asyncio.Task[None]]] = {}
        for body in list(store.all(_WORKFLOW, unfinished=True)):
            Workflow(body, self._keep).lost()

    def artifacts_in(self, bucket: str) -> None:
        """Say which bucket the artifact repository is; Argo is told so in its configuration."""
        self._store.put(_REPOSITORY, "default", {"bucket": bucket}, unfinished=False)

    def register(self, definition: Mapping[str, Any]) -> Definition:
        """Register or replace a WorkflowTemplate or CronWorkflow.

        Raises:
          EmbeddedError: It uses what is not executed here; the message names the first such thing, and how many there
              are.
        """
        refused = fields.validate(definition)
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise EmbeddedError(refused[0] + more)
        name = definition["metadata"].get("name", "")
        if not _NAME.fullmatch(name):
            raise EmbeddedError(f"{name!r} is not a name: small letters, digits, dashes and dots")
        self._store.put(definition["kind"], name, dict(definition), unfinished=False)
        return dict(definition)

    def definitions(self, kind: str) -> list[Definition]:
        """What is registered of a kind."""
        return list(self._store.all(kind))

    def definition(self, kind: str, name: str) -> Definition:
        """One definition.

        Raises:
          NotFoundError: There is none.
        """
        found = self._store.get(kind, name)
        if found is None:
            raise NotFoundError(f"there is no {kind} {name}; registered are {self._known(kind)}")
        return found

    def forget(self, kind: str, name: str) -> None:
        """Take a definition away; what runs goes on with what it was.

        Raises:
          NotFoundError: There is none.
        """
        self.definition(kind, name)
        self._store.delete(kind, name)

    def submit(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Start a workflow of a name (or generateName), labels, workflowTemplateRef, arguments and entrypoint.

        A workflow that exists already with the same reference and arguments is given back as it is, so that a repeated
        request starts nothing twice.

        Raises:
          ExistsError: The name is another workflow's.
          EmbeddedError: It is not such a workflow, or it lacks something.
        """
        metadata, spec = dict(wanted.get("metadata") or {}), dict(wanted.get("spec") or {})
        if unknown := set(spec) - {"workflowTemplateRef", "arguments", "entrypoint"}:
            raise EmbeddedError(
                f"spec.{min(unknown)}: a workflow may set workflowTemplateRef, arguments and entrypoint, as under "
                "Argo's strict template referencing"
            )
        template = (spec.get("workflowTemplateRef") or {}).get("name")
        if not template:
            raise EmbeddedError("spec.workflowTemplateRef.name is missing: only registered WorkflowTemplates are run")
        name = metadata.get("name") or f"{metadata.get('generateName', f'{template}-')}{secrets.token_hex(3)[:5]}"
        if not _NAME.fullmatch(name) or len(name) > 63:
            raise EmbeddedError(f"{name!r} is not a workflow's name: at most 63 small letters, digits, dashes and dots")
        arguments = dict(spec.get("arguments") or {})
        if (there := self._store.get(_WORKFLOW, name)) is not None:
            same = (
                there["spec"]["workflowTemplateRef"] == {"name": template} and there["spec"]["arguments"] == arguments
            )
            if same and metadata.get("name"):
                return there
            raise ExistsError(f"there is a workflow {name} already, with other arguments; give another name")
        definition = self.definition("WorkflowTemplate", template)
        specs = self._specs(definition)
        labels = {**_metadata(specs[template], "labels"), **(metadata.get("labels") or {})}
        labels["workflows.argoproj.io/workflow-template"] = template
        namespace = metadata.get("namespace") or definition["metadata"].get("namespace") or "default"
        workflow = Workflow.new(
            name,
            str(uuid.uuid4()),
            namespace,
            template,
            arguments,
            labels,
            self._keep,
            entrypoint=spec.get("entrypoint"),
        )
        entrypoint = spec.get("entrypoint") or specs[template].get("entrypoint")
        if not any(one["name"] == entrypoint for one in specs[template].get("templates", ())):
            raise EmbeddedError(
                f"WorkflowTemplate {template} has no entrypoint {entrypoint or ''}; name one of its templates"
            )
        _check_given(arguments, specs[template], template)
        repository = self._store.get(_REPOSITORY, "default") or {"bucket": ""}
        steps = Steps(
            self._machine, Repository(self._machine.given.get("STORAGE_EMULATOR_HOST", ""), repository["bucket"])
        )
        execution = Execution(workflow, specs, template, steps, Cache(self._store))
        for note in self._notes(specs):
            workflow.note("Ignored", note)
        self._keep(workflow)
        task = asyncio.ensure_future(self._run(workflow, execution))
        self._running[name] = (workflow, execution, task)
        return workflow.body

    def get(self, name: str) -> dict[str, Any]:
        """A workflow.

        Raises:
          NotFoundError: There is none.
        """
        if name in self._running:
            return self._running[name][0].body
        found = self._store.get(_WORKFLOW, name)
        if found is None:
            raise NotFoundError(f"there is no workflow {name}")
        return found

    def all(self, selector: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Workflows in the order of submission, those with all of these labels."""
        wanted = (selector or {}).items()
        return [
            body
            for body in self._store.all(_WORKFLOW)
            if all(body["metadata"]["labels"].get(k) == v for k, v in wanted)
        ]

    def stop(self, name: str, *, terminate: bool = False) -> dict[str, Any]:
        """Stop a workflow: its exit handler still runs, unless it is terminated.

        Raises:
          NotFoundError: There is none.
          EmbeddedError: It has ended.
        """
        body = self.get(name)
        if name not in self._running:
            raise EmbeddedError(f"workflow {name} has ended already: {body['status']['phase']}")
        self._running[name][1].stop(terminate=terminate)
        return body

    def delete(self, name: str) -> None:
        """Forget a workflow that has ended, and its logs.

        Raises:
          NotFoundError: There is none.
          EmbeddedError: It still runs.
        """
        self.get(name)
        if name in self._running:
            raise EmbeddedError(f"workflow {name} still runs; stop it first")
        self._store.delete(_WORKFLOW, name)
        shutil.rmtree(self._machine.state / "workflows" / name, ignore_errors=True)

    def log(self, name: str, node: str, stream: str) -> Path:
        """The file of a step's output; it may not be there yet.

        Raises:
          NotFoundError: There is no such workflow, step or stream.
        """
        if node not in self.get(name)["status"]["nodes"] or stream not in ("stdout", "stderr"):
            raise NotFoundError(f"workflow {name} has no step {node} with a {stream}")
        return self._machine.state / "workflows" / name / node / f"main.{stream}"

    def alive(self, name: str, node: str) -> bool:
        """Whether a step may still write."""
        found = self._running.get(name)
        return bool(found) and found[0].nodes.get(node, {}).get("phase") in ("Pending", "Running")

    async def wait(self, name: str) -> dict[str, Any]:
        """Wait for a workflow's end."""
        if name in self._running:
            await asyncio.shield(self._running[name][2])
        return self.get(name)

    async def close(self) -> None:
        """End what runs; it is lost."""
        running = list(self._running.values())
        for _, _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in running), return_exceptions=True)

    async def _run(self, workflow: Workflow, execution: Execution) -> None:
        try:
            await execution.run()
        except asyncio.CancelledError:
            workflow.lost()
            raise
        except EmbeddedError as error:
            workflow.end("Error", str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the run, and be said
            _log.exception("workflow %s", workflow.name)
            workflow.end("Error", f"the engine failed: {type(error).__name__}; see the supervisor's log")
        finally:
            del self._running[workflow.name]

    def _keep(self, workflow: Workflow) -> None:
        template = workflow.body["spec"]["workflowTemplateRef"]["name"]
        self._store.put(_WORKFLOW, workflow.name, workflow.body, parent=template, unfinished=not workflow.finished)

    def _known(self, kind: str) -> str:
        return ", ".join(one["metadata"]["name"] for one in self._store.all(kind)) or "none"

    def _specs(self, definition: Definition) -> dict[str, Any]:
        """The specs of a template and of all it refers to, as they are now, whatever is registered later."""
        found: dict[str, Any] = {}
        left = [definition]
        while left:
            one = left.pop()
            found[one["metadata"]["name"]] = copy.deepcopy(one["spec"])
            for template in fields.templates_of(one):
                for call in fields.calls(template):
                    if (reference := call.get("templateRef")) is None:
                        continue
                    if reference["name"] not in found:
                        left.append(self.definition("WorkflowTemplate", reference["name"]))
                    where = self.definition("WorkflowTemplate", reference["name"])
                    if not any(each["name"] == reference["template"] for each in fields.templates_of(where)):
                        raise EmbeddedError(
                            f"{one['metadata']['name']}: template {template['name']}: {call.get('name')}: "
                            f"WorkflowTemplate {reference['name']} has no template {reference['template']}"
                        )
        return found

    def _notes(self, specs: Mapping[str, Any]) -> list[str]:
        checked = fields.Checked()
        for name, spec in specs.items():
            one = fields.check(
                {
                    "apiVersion": "argoproj.io/v1alpha1",
                    "kind": "WorkflowTemplate",
                    "metadata": {"name": name},
                    "spec": spec,
                }
            )
            for reason, names in one.ignored.items():
                checked.ignored.setdefault(reason, set()).update(names)
        return checked.notes()


def _metadata(spec: Mapping[str, Any], part: str) -> dict[str, str]:
    return dict((spec.get("workflowMetadata") or {}).get(part) or {})


def _check_given(arguments: Mapping[str, Any], spec: Mapping[str, Any], template: str) -> None:
    if unknown := set(arguments) - {"parameters", "artifacts"}:
        raise EmbeddedError(f"arguments.{min(unknown)}: arguments are parameters and artifacts")
    declared = {one["name"] for one in (spec.get("arguments") or {}).get("parameters", ())}
    for one in arguments.get("parameters", ()):
        if not isinstance(one, dict) or set(one) - {"name", "value"} or "value" not in one:
            raise EmbeddedError("arguments.parameters: each is {name, value}")
        if one["name"] not in declared:
            raise EmbeddedError(
                f"{template} has no parameter {one['name']}; it has {', '.join(sorted(declared)) or 'none'}"
            )
