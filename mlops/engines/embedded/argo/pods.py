"""One step as a process: a container, a script, or a SparkApplication, from its inputs to its outputs.

Owns: what of a pod a process on this machine is given: command, environment, folders in the place of mounted paths,
its inputs and outputs, its deadline. Deliberately not: the order of steps (`execution`), the process itself (`tasks`),
images (`images`).
"""

import asyncio
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from definitions.argo.models import Arguments, Artifact, Container, Parameter, Script, Template, text_of
from definitions.quantities import quantity
from definitions.spark import SparkApplication
from definitions.typed import DefinitionError
from mlops.engines.embedded.argo import expressions, spark, support, tags
from mlops.engines.embedded.argo.artifacts import Location, Repository
from mlops.engines.embedded.argo.record import Node, Record
from mlops.engines.embedded.argo.retries import whole
from mlops.engines.embedded.argo.values import Values
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.scheduler import MHZ_A_CORE, Place, Resources
from mlops.engines.embedded.tasks import Command, Exit

Outputs = dict[str, Any]
Turn = Callable[..., None]
_RESULT_BYTES = 256 * 1024
_DEFAULT = Resources(100, 128)
_STOP_SECONDS = 5.0


class StepEndError(EmbeddedError):
    """A step that ended badly; the message is one line.

    Attributes:
        phase: Failed (it said no) or Error (it could not be tried, or its outputs are missing).
    """

    def __init__(self, phase: str, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.phase = phase
        self.outputs: Outputs = {} if code is None else {"exitCode": str(code)}


class Pods:
    """Runs steps on a machine.

    Args:
      machine: Whose images, processes, cores and memory they get.
      repository: Where their artifacts are.
    """

    def __init__(self, machine: Machine, repository: Repository) -> None:
        self._machine = machine
        self._repository = repository

    def arrive(self) -> int:
        """A number for a workflow, by which its steps come before those of later ones."""
        return self._machine.scheduler.arrive()

    def folder(self, workflow: str, node: str = "") -> Path:
        """Where a workflow's, or a node's, output is."""
        return self._machine.state / "workflows" / workflow / node

    async def run(
        self,
        record: Record,
        node: Node,
        template: Template,
        inputs: Values,
        env: Mapping[str, Any],
        turn: Turn,
        place: Place,
    ) -> Outputs:
        """Run a step to its end and give its outputs.

        Raises:
          StepEndError: It failed.
          EmbeddedError: It could not be tried.
        """
        folder = self.folder(record.name, node["id"])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if template.resource:
                return await self._resource(node, template, env, folder, turn, place)
            return await self._container(node, template, inputs, dict(env), folder, turn, place)
        except OSError as error:
            raise EmbeddedError(f"cannot prepare the step: {error.strerror} ({error.filename})") from error
        finally:
            # Logs stay; what it read and wrote is in the bucket.
            shutil.rmtree(folder / "root", ignore_errors=True)

    async def _container(
        self,
        node: Node,
        template: Template,
        inputs: Values,
        env: dict[str, Any],
        folder: Path,
        turn: Turn,
        place: Place,
    ) -> Outputs:
        for artifact in template.inputs.artifacts:
            env[f"inputs.artifacts.{artifact.name}.path"] = artifact.path
        for artifact in template.outputs.artifacts:
            env[f"outputs.artifacts.{artifact.name}.path"] = artifact.path
        for parameter in template.outputs.parameters:
            env[f"outputs.parameters.{parameter.name}.path"] = parameter.value_from.path
        env["pod.name"] = node["id"]
        run = tags.fill(template.container or template.script, env)
        assert run, "it is neither a resource nor a DAG"  # noqa: S101
        artifacts = tags.fill(template.inputs, env, later=lambda _: True).artifacts
        declared = tags.fill(template.outputs, env)
        mounts = [mount.mount_path for mount in run.volume_mounts]
        written = [each.path for each in declared.artifacts] + [each.value_from.path for each in declared.parameters]
        places = _Places(folder / "root", [*mounts, *(each.path for each in artifacts), *written])
        amount = requested(run)
        node["requests"] = {"cpu": amount.cpu, "memory": amount.memory}
        self._machine.scheduler.check(amount, f"step {node['displayName']}")
        async with self._machine.scheduler.granted(amount, place):
            turn("Running")
            places.make(mounts)
            fetches = (self._fetch(each, inputs.artifacts.get(each.name), places) for each in artifacts)
            # All have ended before one that failed is told: a thread that still writes would do so into a retry.
            for failed in filter(None, await asyncio.gather(*fetches, return_exceptions=True)):
                raise failed
            for path in filter(None, written):
                places.host(path).parent.mkdir(parents=True, exist_ok=True)
            command = await self._command(run, places, folder, node, amount)
            end = await self._within(tags.fill(template.active_deadline_seconds, env), command, node)
            said = last_line(command.stderr) or last_line(command.stdout)
            if end.code:
                raise StepEndError("Failed", f"exit code {end.code}" + (f": {said}" if said else ""), end.code)
            outputs = await self._outputs(declared, places)
        outputs["exitCode"] = "0"
        outputs["result"] = _result(command.stdout)
        return outputs

    async def _fetch(self, declared: Artifact, location: Location | None, places: "_Places") -> None:
        what = f"input artifact {declared.name}"
        there = location is not None and await asyncio.to_thread(
            self._repository.fetch, location, places.host(declared.path), what
        )
        if not there and not declared.optional:
            key = ((location or {}).get("gcs") or {}).get("key", "?")
            raise EmbeddedError(f"{what}: there is nothing at {key} in the bucket")

    async def _command(
        self, run: Container | Script, places: "_Places", folder: Path, node: Node, amount: Resources
    ) -> Command:
        machine = self._machine
        stdout, stderr = _logs(folder)
        image = await machine.images.resolve(run.image)
        await machine.images.prepare(
            image, machine.processes, stderr, lambda text: node.update(message=f"preparing: {text}")
        )
        # As in Kubernetes: command replaces ENTRYPOINT and takes CMD with it; args replace CMD.
        argv = list(map(places.argument, run.command)) or list(image.entrypoint)
        if isinstance(run, Script):
            script = places.root / "script"
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(run.source)
            argv.append(str(script))
        elif run.args is not None:
            argv += map(places.argument, run.args)
        elif not run.command:
            argv += image.cmd
        if not argv:
            raise EmbeddedError(f"images/{image.folder.name} names no program, and the step gives no command")
        temporary = places.root / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {
            **machine.environment(places.root, temporary, image.path),
            **image.env,
            **await machine.code(),
            **{variable.name: places.argument(variable.value) for variable in run.env},
            # There is no container, whatever the definition says: a model is confined by namespaces.
            "MLOPS_CONFINEMENT": "namespaces",
        }
        if any("\x00" in value for value in (*argv, *environment.values())):
            raise EmbeddedError("a value holds a NUL character, which neither arguments nor environment can carry")
        cwd = Path(places.argument(run.working_dir)) if run.working_dir not in ("", "/app") else image.folder
        return Command(tuple(argv), environment, cwd, stdout, stderr, amount.niceness)

    async def _within(self, deadline: str | None, command: Command, node: Node, spent: float = 0) -> Exit:
        """Run a process to its end, or to the step's deadline, of which some seconds are spent already."""
        began = time.monotonic()
        node.pop("message", None)  # of preparing, or of an earlier attempt
        limit = whole(deadline, "activeDeadlineSeconds") if deadline else 0
        try:
            async with asyncio.timeout(max(0.0, limit - spent) if limit else None):
                end = await self._machine.processes.run(command)
        except TimeoutError:
            node["usage"] = {"wallSeconds": round(time.monotonic() - began, 3)}
            raise StepEndError("Failed", f"ran longer than its activeDeadlineSeconds ({deadline})") from None
        node["usage"] = {
            "peakMemoryBytes": end.peak_memory_bytes,
            "cpuSeconds": round(end.cpu_seconds, 3),
            "wallSeconds": round(end.wall_seconds, 3),
        }
        return end

    async def _outputs(self, declared: Arguments, places: "_Places") -> Outputs:
        outputs: Outputs = {"parameters": [], "artifacts": []}
        for parameter in declared.parameters:
            source, value = parameter.value_from, parameter.value or ""
            if source.path:
                path = places.host(source.path)
                if path.is_file():
                    value = path.read_text(errors="replace").removesuffix("\n")
                elif source.default is not None:
                    value = source.default
                else:
                    said = f"output parameter {parameter.name}: the step did not write {source.path}"
                    raise StepEndError("Error", said, 0)
            outputs["parameters"].append({"name": parameter.name, "value": value})
        for artifact in declared.artifacts:
            path, what = places.host(artifact.path), f"output artifact {artifact.name}"
            own = {"key": f"steps/{places.root.parent.name}/{artifact.name}"}
            location = {"gcs": dict(artifact.gcs.given()) if artifact.gcs else own}
            if path.exists():
                await asyncio.to_thread(self._repository.store, path, location, what)
                outputs["artifacts"].append({"name": artifact.name, **location})
            elif not artifact.optional:
                raise StepEndError("Error", f"{what}: the step did not write {artifact.path}", 0)
        return outputs

    async def _resource(
        self, node: Node, template: Template, env: Mapping[str, Any], folder: Path, turn: Turn, place: Place
    ) -> Outputs:
        resource = tags.fill(template.resource, {**env, "pod.name": node["id"]})
        assert resource, "it is a resource"  # noqa: S101
        if resource.action == "delete":
            # Spark ended with the step that started it; there is nothing left to delete.
            turn("Running")
            return {}
        try:
            application = support.spark_application(resource.manifest, "the manifest")
        except DefinitionError as error:
            raise EmbeddedError(error.problems[0]) from None
        if not application.metadata.name:
            stem = application.metadata.generate_name or "spark-"
            named = application.metadata.model_copy(update={"name": f"{stem}{node['id'].rpartition('-')[2]}"})
            application = application.model_copy(update={"metadata": named})
        amount = spark.amount(application)
        node["requests"] = {"cpu": amount.cpu, "memory": amount.memory}
        self._machine.scheduler.check(amount, f"step {node['displayName']}")
        async with self._machine.scheduler.granted(amount, place):
            turn("Running")
            deadline = tags.fill(template.active_deadline_seconds, env)
            state, message = await self._spark(application, node, folder, deadline, amount)
        if _meets(resource.failure_condition, state) or not _meets(resource.success_condition, state):
            # As Argo's executor names it, for who decides by the message whether to try again.
            said = f"SparkApplication {application.metadata.name} is {state} (failure condition): {message}"
            raise StepEndError("Failed", said)
        status = {"status": {"applicationState": {"state": state}}}
        shown = application.model_dump(by_alias=True, exclude_unset=True) | status
        declared = tags.fill(template.outputs, env).parameters
        return {"parameters": [{"name": each.name, "value": _from_resource(each, shown)} for each in declared]}

    async def _spark(
        self, application: SparkApplication, node: Node, folder: Path, deadline: str | None, amount: Resources
    ) -> tuple[str, str]:
        """The application's final state, and what its driver said last."""
        machine, policy = self._machine, spark.restarts(application)
        stdout, stderr = _logs(folder)
        image = await machine.images.resolve(application.spec.image)
        await machine.images.prepare(
            image, machine.processes, stderr, lambda text: node.update(message=f"preparing: {text}")
        )
        argv = spark.command(application, image.folder)
        temporary = folder / "root" / "tmp"
        shown = application.model_dump(by_alias=True, exclude_unset=True)
        (folder / "manifest.yaml").write_text(yaml.safe_dump(shown, sort_keys=False))
        attempt, began = 0, time.monotonic()
        while True:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            environment = {
                **machine.environment(folder / "root", temporary, image.path),
                # SPARK_HOME is a place in the image; spark-submit of the image's own environment finds itself.
                **{name: value for name, value in image.env.items() if name != "SPARK_HOME"},
                **await machine.code(),
                "SPARK_LOCAL_IP": "127.0.0.1",
                "SPARK_LOCAL_DIRS": str(temporary),
                **spark.environment(application),
            }
            # Attempts share a log; what an earlier one said is not what this one died of.
            said_before = stderr.stat().st_size if stderr.exists() else 0
            command = Command(tuple(argv), environment, image.folder, stdout, stderr, amount.niceness)
            end = await self._within(deadline, command, node, time.monotonic() - began)
            attempt += 1
            node["sparkAttempts"] = attempt
            if end.code == 0:
                return "COMPLETED", ""
            said = spark.last_lines(stderr, since=said_before) or last_line(stdout)
            message = f"exit code {end.code} in attempt {attempt}: {said}"
            if attempt > policy.retries:
                return "FAILED", message
            node["message"] = f"{message}; trying again in {policy.interval * attempt:g} s"
            await asyncio.sleep(policy.interval * attempt)


def _logs(folder: Path) -> tuple[Path, Path]:
    return folder / "main.stdout", folder / "main.stderr"


class _Places:
    """A step's own folders in the place of paths in a container: the same rule as for Nomad's volumes.

    A value that is such a path, or begins with one and a slash, is given the path on this machine.
    """

    def __init__(self, root: Path, paths: list[str]) -> None:
        self.root = root
        self._paths = sorted({path.rstrip("/") for path in paths if path}, key=len, reverse=True)
        for path in self._paths:
            if not path.startswith("/") or ".." in path.split("/"):
                raise EmbeddedError(f"path {path!r} is not an absolute path")

    def host(self, path: str) -> Path:
        return self.root / path.strip("/")

    def make(self, paths: Any) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for path in paths:
            self.host(path).mkdir(parents=True, exist_ok=True)

    def argument(self, value: str) -> str:
        for path in self._paths:
            if value == path or value.startswith(path + "/"):
                return str(self.root) + value
        return value


def requested(run: Container | Script) -> Resources:
    """What a container asks of the machine, by its requests.

    Raises:
      EmbeddedError: They are not amounts.
    """
    requests = run.resources.requests
    cpu, memory = requests.cpu or f"{_DEFAULT.cpu}m", requests.memory or f"{_DEFAULT.memory}Mi"
    cores, size = quantity(cpu), quantity(memory)
    if cores is None or size is None:
        raise EmbeddedError(f"requests cpu {cpu!r}, memory {memory!r}: write them like 500m or 2, and 512Mi or 2Gi")
    return Resources(int(cores * MHZ_A_CORE), math.ceil(size / 2**20))


def last_line(path: Path) -> str:
    """The last line of an output that says something: by contract the message for people."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:1000] if lines else ""


def _result(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_RESULT_BYTES).decode(errors="replace").removesuffix("\n")
    except OSError:
        return ""


def _meets(condition: str, state: str) -> bool:
    """Whether a condition, of the form that `support.CONDITION` has, holds."""
    return state in re.findall(r"\w+", re.split(r"==|\bin\b", condition, maxsplit=1)[-1])


def _from_resource(declared: Parameter, manifest: Mapping[str, Any]) -> str:
    if not declared.value_from.json_path:
        return declared.value or ""
    path = "$" + declared.value_from.json_path.strip("{}")
    scope = {"document": json.dumps(manifest, default=str), "path": path}
    return text_of(expressions.parse("jsonpath(document, path)").evaluate(scope))
