"""One step as a process: a container, a script, or a SparkApplication, from its inputs to its outputs.

Owns: what of a pod a process on this machine is given: command, environment, folders in the place of mounted paths,
its inputs and outputs, its deadline. Deliberately not: the order of steps (`run`), the process itself (`tasks`),
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
from typing import Any, Protocol

import yaml

from definitions.quantities import quantity
from mlops.engines.embedded.argo import expressions, fields, spark, tags
from mlops.engines.embedded.argo.artifacts import Location, Repository
from mlops.engines.embedded.argo.workflow import Node, Workflow
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.scheduler import MHZ_A_CORE, Place, Resources
from mlops.engines.embedded.tasks import Command, Exit

Outputs = dict[str, Any]
Turn = Callable[..., None]
_RESULT_BYTES = 256 * 1024
_DEFAULT = Resources(100, 128)
_STOP_SECONDS = 5.0


class Inputs(Protocol):
    """What a step is called with."""

    parameters: dict[str, str]
    artifacts: dict[str, Location]


class StepEndError(EmbeddedError):
    """A step that ended badly; the message is one line.

    Attributes:
        phase: Failed (it said no) or Error (it could not be tried, or its outputs are missing).
    """

    def __init__(self, phase: str, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.phase = phase
        self.outputs: Outputs = {} if code is None else {"exitCode": str(code)}


class Steps:
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
        workflow: Workflow,
        node: Node,
        template: Mapping[str, Any],
        inputs: Inputs,
        env: Mapping[str, Any],
        turn: Turn,
        place: Place,
    ) -> Outputs:
        """Run a step to its end and give its outputs.

        Raises:
          StepEndError: It failed.
          EmbeddedError: It could not be tried.
        """
        folder = self.folder(workflow.name, node["id"])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if "resource" in template:
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
        template: Mapping[str, Any],
        inputs: Inputs,
        env: dict[str, Any],
        folder: Path,
        turn: Turn,
        place: Place,
    ) -> Outputs:
        kind = "container" if "container" in template else "script"
        declared_in, declared_out = template.get("inputs") or {}, template.get("outputs") or {}
        for group, declared in (("inputs", declared_in), ("outputs", declared_out)):
            env |= {
                f"{group}.artifacts.{one['name']}.path": one.get("path", "") for one in declared.get("artifacts", ())
            }
        for one in declared_out.get("parameters", ()):
            env[f"outputs.parameters.{one['name']}.path"] = (one.get("valueFrom") or {}).get("path", "")
        env["pod.name"] = node["id"]
        spec = tags.fill(template[kind], env)
        declared_in, declared_out = tags.fill(declared_in, env, later=lambda _: True), tags.fill(declared_out, env)
        paths = [mount["mountPath"] for mount in spec.get("volumeMounts", ())]
        paths += [
            one["path"]
            for one in (*declared_in.get("artifacts", ()), *declared_out.get("artifacts", ()))
            if "path" in one
        ]
        paths += [
            one["valueFrom"]["path"] for one in declared_out.get("parameters", ()) if "path" in one.get("valueFrom", {})
        ]
        places = _Places(folder / "root", paths)
        amount = requested(spec)
        node["requests"] = {"cpu": amount.cpu, "memory": amount.memory}
        self._machine.scheduler.check(amount, f"step {node['displayName']}")
        async with self._machine.scheduler.granted(amount, place):
            turn("Running")
            places.make(mount["mountPath"] for mount in spec.get("volumeMounts", ()))
            artifacts = declared_in.get("artifacts", ())
            fetches = (self._fetch(one, inputs.artifacts.get(one["name"]), places) for one in artifacts)
            # All have ended before one that failed is told: a thread that still writes would do so into a retry.
            for failed in filter(None, await asyncio.gather(*fetches, return_exceptions=True)):
                raise failed
            for one in (
                *declared_out.get("artifacts", ()),
                *(p.get("valueFrom", {}) for p in declared_out.get("parameters", ())),
            ):
                if "path" in one:
                    places.host(one["path"]).parent.mkdir(parents=True, exist_ok=True)
            command = await self._command(spec, places, folder, node, amount)
            seconds = template.get("activeDeadlineSeconds")
            end = await self._within(float(seconds) if seconds else None, command, node, seconds)
            said = last_line(command.stderr) or last_line(command.stdout)
            if end.code:
                raise StepEndError("Failed", f"exit code {end.code}" + (f": {said}" if said else ""), end.code)
            outputs = await self._outputs(declared_out, places)
        outputs["exitCode"] = "0"
        outputs["result"] = _result(command.stdout)
        return outputs

    async def _fetch(self, declared: Mapping[str, Any], location: Location | None, places: "_Places") -> None:
        what = f"input artifact {declared['name']}"
        there = location is not None and await asyncio.to_thread(
            self._repository.fetch, location, places.host(declared["path"]), what
        )
        if not there and not declared.get("optional"):
            key = ((location or {}).get("gcs") or {}).get("key", "?")
            raise EmbeddedError(f"{what}: there is nothing at {key} in the bucket")

    async def _command(
        self, spec: Mapping[str, Any], places: "_Places", folder: Path, node: Node, amount: Resources
    ) -> Command:
        machine = self._machine
        stdout, stderr = self._logs(folder)
        image = await machine.images.resolve(spec["image"])
        await machine.images.prepare(
            image, machine.processes, stderr, lambda text: node.update(message=f"preparing: {text}")
        )
        command, args = spec.get("command"), spec.get("args")
        if "source" in spec:
            script = places.root / "script"
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(spec["source"])
            argv = [*map(places.argument, command or image.entrypoint), str(script)]
        else:
            # As in Kubernetes: command replaces ENTRYPOINT and takes CMD with it; args replace CMD.
            start = list(map(places.argument, command)) if command else list(image.entrypoint)
            rest = list(map(places.argument, args)) if args is not None else [] if command else list(image.cmd)
            argv = [*start, *rest]
        if not argv:
            raise EmbeddedError(f"images/{image.folder.name} names no program, and the step gives no command")
        temporary = places.root / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {
            **machine.environment(places.root, temporary, image.path),
            **image.env,
            **await machine.code(),
            **{one["name"]: places.argument(str(one.get("value", ""))) for one in spec.get("env", ())},
            # There is no container, whatever the definition says: a model is confined by namespaces.
            "MLOPS_CONFINEMENT": "namespaces",
        }
        if any("\x00" in value for value in (*argv, *environment.values())):
            raise EmbeddedError("a value holds a NUL character, which neither arguments nor environment can carry")
        cwd = Path(places.argument(spec["workingDir"])) if spec.get("workingDir", "/app") != "/app" else image.folder
        return Command(tuple(argv), environment, cwd, stdout, stderr, amount.niceness)

    async def _within(self, seconds: float | None, command: Command, node: Node, said: Any) -> Exit:
        began = time.monotonic()
        node.pop("message", None)  # of preparing, or of an earlier attempt
        try:
            async with asyncio.timeout(seconds):
                end = await self._machine.processes.run(command)
        except TimeoutError:
            node["usage"] = {"wallSeconds": round(time.monotonic() - began, 3)}
            raise StepEndError("Failed", f"ran longer than its activeDeadlineSeconds ({said})") from None
        node["usage"] = {
            "peakMemoryBytes": end.peak_memory_bytes,
            "cpuSeconds": round(end.cpu_seconds, 3),
            "wallSeconds": round(end.wall_seconds, 3),
        }
        return end

    async def _outputs(self, declared: Mapping[str, Any], places: "_Places") -> Outputs:
        outputs: Outputs = {"parameters": [], "artifacts": []}
        for one in declared.get("parameters", ()):
            source = one.get("valueFrom") or {}
            if "path" in source:
                path = places.host(source["path"])
                if path.is_file():
                    value = path.read_text().removesuffix("\n")
                elif "default" in source:
                    value = tags.text_of(source["default"])
                else:
                    raise StepEndError(
                        "Error", f"output parameter {one['name']}: the step did not write {source['path']}", 0
                    )
            else:
                value = tags.text_of(one.get("value", ""))
            outputs["parameters"].append({"name": one["name"], "value": value})
        for one in declared.get("artifacts", ()):
            path, what = places.host(one["path"]), f"output artifact {one['name']}"
            location = (
                {"gcs": one["gcs"]}
                if one.get("gcs")
                else {"gcs": {"key": f"steps/{places.root.parent.name}/{one['name']}"}}
            )
            if path.exists():
                await asyncio.to_thread(self._repository.store, path, location, what)
                outputs["artifacts"].append({"name": one["name"], **location})
            elif not one.get("optional"):
                raise StepEndError("Error", f"{what}: the step did not write {one['path']}", 0)
        return outputs

    async def _resource(
        self, node: Node, template: Mapping[str, Any], env: Mapping[str, Any], folder: Path, turn: Turn, place: Place
    ) -> Outputs:
        resource = tags.fill(template["resource"], {**env, "pod.name": node["id"]})
        if resource["action"] == "delete":
            # Spark ended with the step that started it; there is nothing left to delete.
            turn("Running")
            return {}
        checked = fields.Checked()
        manifest = fields.spark_application(resource["manifest"], "the manifest", checked)
        if checked.refused:
            raise EmbeddedError(checked.refused[0])
        metadata = manifest.setdefault("metadata", {})
        if "name" not in metadata:
            metadata["name"] = f"{metadata.get('generateName', 'spark-')}{node['id'].rpartition('-')[2]}"
        amount = spark.amount(manifest)
        node["requests"] = {"cpu": amount.cpu, "memory": amount.memory}
        self._machine.scheduler.check(amount, f"step {node['displayName']}")
        async with self._machine.scheduler.granted(amount, place):
            turn("Running")
            state, message = await self._spark(manifest, node, folder, template.get("activeDeadlineSeconds"), amount)
        manifest["status"] = {"applicationState": {"state": state}}
        if _meets(resource.get("failureCondition", ""), state) or not _meets(
            resource.get("successCondition", ""), state
        ):
            # As Argo's executor names it, for who decides by the message whether to try again.
            said = f"SparkApplication {metadata['name']} is {state} (failure condition): {message}"
            raise StepEndError("Failed", said)
        declared = tags.fill(template.get("outputs") or {}, env)
        return {
            "parameters": [
                {"name": one["name"], "value": _from_resource(one, manifest)} for one in declared.get("parameters", ())
            ]
        }

    async def _spark(
        self, manifest: Mapping[str, Any], node: Node, folder: Path, deadline: Any, amount: Resources
    ) -> tuple[str, str]:
        """The application's final state, and what its driver said last."""
        machine, policy = self._machine, spark.restarts(manifest)
        stdout, stderr = self._logs(folder)
        image = await machine.images.resolve(manifest["spec"]["image"])
        await machine.images.prepare(
            image, machine.processes, stderr, lambda text: node.update(message=f"preparing: {text}")
        )
        argv = spark.command(manifest, image.folder)
        temporary = folder / "root" / "tmp"
        (folder / "manifest.yaml").write_text(yaml.safe_dump(dict(manifest), sort_keys=False))
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
                **spark.environment(manifest),
            }
            # Attempts share a log; what an earlier one said is not what this one died of.
            said_before = stderr.stat().st_size if stderr.exists() else 0
            left = max(0.0, float(deadline) - (time.monotonic() - began)) if deadline else None
            end = await self._within(
                left,
                Command(tuple(argv), environment, image.folder, stdout, stderr, amount.niceness),
                node,
                deadline,
            )
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

    @staticmethod
    def _logs(folder: Path) -> tuple[Path, Path]:
        return folder / "main.stdout", folder / "main.stderr"


class _Places:
    """A step's own folders in the place of paths in a container: the same rule as for Nomad's volumes.

    A value that is such a path, or begins with one and a slash, is given the path on this machine.
    """

    def __init__(self, root: Path, paths: list[str]) -> None:
        self.root = root
        self._paths = sorted({path.rstrip("/") for path in paths}, key=len, reverse=True)
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


def requested(spec: Mapping[str, Any]) -> Resources:
    """What a container asks of the machine, by its requests.

    Raises:
      EmbeddedError: They are not amounts.
    """
    requests = (spec.get("resources") or {}).get("requests") or {}
    cpu = str(requests.get("cpu", f"{_DEFAULT.cpu}m"))
    memory = str(requests.get("memory", f"{_DEFAULT.memory}Mi"))
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
    """Whether a condition, of the form that `fields.CONDITION` has, holds."""
    return state in re.findall(r"\w+", re.split(r"==|\bin\b", condition, maxsplit=1)[-1])


def _from_resource(declared: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    source = declared.get("valueFrom") or {}
    if "jsonPath" not in source:
        return tags.text_of(declared.get("value", ""))
    path = "$" + source["jsonPath"].strip("{}")
    scope = {"document": json.dumps(manifest, default=str), "path": path}
    return tags.text_of(expressions.parse("jsonpath(document, path)").evaluate(scope))
