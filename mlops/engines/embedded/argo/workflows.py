"""All workflows of one platform: registered definitions, submitted workflows, and what is asked of them.

Owns: what is registered, which workflow runs, what is remembered of it across restarts, and that a name is used once.
Deliberately not: how a workflow is run (`execution`), and HTTP (`api`).
"""

import asyncio
import logging
import re
import secrets
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from definitions.argo import CronWorkflow, WorkflowTemplate, parse_definition
from definitions.argo.models import Arguments, Spec, Submitted
from definitions.typed import DefinitionError, parse
from mlops.engines.embedded.argo import support
from mlops.engines.embedded.argo.artifacts import Repository
from mlops.engines.embedded.argo.cache import Cache
from mlops.engines.embedded.argo.execution import Execution
from mlops.engines.embedded.argo.pods import Pods
from mlops.engines.embedded.argo.record import Record
from mlops.engines.embedded.errors import EmbeddedError, NotFoundError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.state import Store

_log = logging.getLogger(__name__)
_WORKFLOW = "workflow"
_REPOSITORY = "artifact-repository"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

Definition = dict[str, Any]
"""As it was registered."""


class ExistsError(EmbeddedError):
    """There is one of that name already."""

    status = 409


class Workflows:
    """All workflows of one platform."""

    def __init__(self, machine: Machine, store: Store) -> None:
        self._machine = machine
        self._store = store
        self._running: dict[str, tuple[Record, Execution, asyncio.Task[None]]] = {}
        for body in list(store.all(_WORKFLOW, unfinished=True)):
            Record(body, self._keep).lost()

    def artifacts_in(self, bucket: str) -> None:
        """Say which bucket the artifact repository is; Argo is told so in its configuration."""
        self._store.put(_REPOSITORY, "default", {"bucket": bucket}, unfinished=False)

    def register(self, definition: Mapping[str, Any]) -> Definition:
        """Register or replace a WorkflowTemplate or CronWorkflow.

        Raises:
          EmbeddedError: It uses what is not executed here; the message names the first such thing, and how many there
              are.
        """
        checked = support.check(definition)
        if checked.refused or checked.definition is None:
            more = f" (and {len(checked.refused) - 1} more)" if len(checked.refused) > 1 else ""
            raise EmbeddedError(checked.refused[0] + more)
        name = checked.definition.metadata.name
        if not _NAME.fullmatch(name):
            raise EmbeddedError(f"{name!r} is not a name: small letters, digits, dashes and dots")
        self._store.put(checked.definition.kind, name, dict(definition), unfinished=False)
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
        submitted = _submitted(wanted)
        metadata, spec = submitted.metadata, submitted.spec
        template = spec.workflow_template_ref.name
        name = metadata.name or f"{metadata.generate_name or f'{template}-'}{secrets.token_hex(3)[:5]}"
        if not _NAME.fullmatch(name) or len(name) > 63:
            raise EmbeddedError(f"{name!r} is not a workflow's name: at most 63 small letters, digits, dashes and dots")
        arguments = spec.arguments.model_dump(by_alias=True, exclude_unset=True)
        if (there := self._store.get(_WORKFLOW, name)) is not None:
            same = there["spec"]["workflowTemplateRef"] == {"name": template}
            if same and there["spec"]["arguments"] == arguments and metadata.name:
                return there
            raise ExistsError(f"there is a workflow {name} already, with other arguments; give another name")
        definition = self._parsed(template)
        specs = self._specs(definition)
        own = specs[template]
        labels = {
            **own.workflow_metadata.labels,
            **metadata.labels,
            "workflows.argoproj.io/workflow-template": template,
        }
        namespace = metadata.namespace or definition.metadata.namespace or "default"
        entrypoint = spec.entrypoint or own.entrypoint
        if own.template(entrypoint) is None:
            raise EmbeddedError(
                f"WorkflowTemplate {template} has no entrypoint {entrypoint}; name one of its templates"
            )
        _check_arguments(spec.arguments, own, template)
        record = Record.new(
            name, str(uuid.uuid4()), namespace, template, arguments, labels, self._keep, spec.entrypoint or None
        )
        repository = self._store.get(_REPOSITORY, "default") or {"bucket": ""}
        endpoint = self._machine.given.get("STORAGE_EMULATOR_HOST", "")
        pods = Pods(self._machine, Repository(endpoint, repository["bucket"]))
        execution = Execution(record, specs, template, pods, Cache(self._store))
        for note in _notes(specs):
            record.note("Ignored", note)
        self._keep(record)
        task = asyncio.ensure_future(self._run(record, execution))
        self._running[name] = (record, execution, task)
        return record.body

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

    async def _run(self, record: Record, execution: Execution) -> None:
        try:
            await execution.run()
        except asyncio.CancelledError:
            record.lost()
            raise
        except EmbeddedError as error:
            record.end("Error", str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the run, and be said
            _log.exception("workflow %s", record.name)
            record.end("Error", f"the engine failed: {type(error).__name__}; see the supervisor's log")
        finally:
            del self._running[record.name]

    def _keep(self, record: Record) -> None:
        template = record.body["spec"]["workflowTemplateRef"]["name"]
        self._store.put(_WORKFLOW, record.name, record.body, parent=template, unfinished=not record.finished)

    def _known(self, kind: str) -> str:
        return ", ".join(each["metadata"]["name"] for each in self._store.all(kind)) or "none"

    def _parsed(self, name: str) -> WorkflowTemplate | CronWorkflow:
        try:
            return parse_definition(self.definition("WorkflowTemplate", name))
        except DefinitionError as error:
            # It was registered with an engine that looked less closely.
            raise EmbeddedError(f"{error.problems[0]}; register it again") from None

    def _specs(self, definition: WorkflowTemplate | CronWorkflow) -> dict[str, Spec]:
        """The specs of a template and of all it refers to, as they are now, whatever is registered later."""
        specs: dict[str, Spec] = {}
        left = [definition]
        while left:
            name, spec = left[-1].metadata.name, left.pop().workflow
            specs[name] = spec
            for template in spec.templates:
                for call in template.calls():
                    if (reference := call.template_ref) is None:
                        continue
                    called = self._parsed(reference.name)
                    if reference.name not in specs:
                        left.append(called)
                    if called.workflow.template(reference.template) is None:
                        raise EmbeddedError(
                            f"{name}: template {template.name}: {call.name}: WorkflowTemplate {reference.name} has no "
                            f"template {reference.template}"
                        )
        return specs


def _submitted(wanted: Any) -> Submitted:
    try:
        submitted = parse(Submitted, wanted, "the workflow")
    except DefinitionError as error:
        raise EmbeddedError(error.problems[0]) from None
    if unknown := submitted.spec.model_extra:
        raise EmbeddedError(
            f"spec.{min(unknown)}: a workflow may set workflowTemplateRef, arguments and entrypoint, as under "
            "Argo's strict template referencing"
        )
    if unknown := submitted.spec.arguments.model_extra:
        raise EmbeddedError(f"arguments.{min(unknown)}: arguments are parameters and artifacts")
    return submitted


def _notes(specs: Mapping[str, Spec]) -> list[str]:
    checked = support.Checked()
    for name, spec in specs.items():
        support.check_fields(spec, name, checked)
    return checked.notes()


def _check_arguments(given: Arguments, spec: Spec, template: str) -> None:
    declared = {parameter.name for parameter in spec.arguments.parameters}
    for parameter in given.parameters:
        if set(dict(parameter.given())) != {"name", "value"}:
            raise EmbeddedError("arguments.parameters: each is {name, value}")
        if parameter.name not in declared:
            raise EmbeddedError(
                f"{template} has no parameter {parameter.name}; it has {', '.join(sorted(declared)) or 'none'}"
            )
