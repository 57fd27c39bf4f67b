"""The executed subset of a Nomad job as typed models, and what becomes of everything else.

Each model's fields are executed; its `without_meaning` are accepted and change nothing on one machine (`parse`
returns them as notes, said once a run); its `refused` are known to Nomad and named with what to do; anything else is
refused by name too. Deliberately not: how HCL is evaluated, nor how a task is run.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from definitions import durations
from definitions.nomad.hcl import Block, HclError, evaluate
from definitions.nomad.jobspec import total
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.nomad import templates
from mlops.engines.embedded.scheduler import Resources

_NAME = re.compile(r"[^\s/\x00]{1,128}")


def _seconds(value: Any) -> float:
    try:
        return durations.seconds(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError('a duration such as "15s" or "24h" is wanted') from None


def _unwrapped(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(block, Block) for block in value):
        if len(value) > 1:
            raise EmbeddedError(f"line {value[1].line}: this block may stand once only")
        return value[0]
    return value


def _text_map(value: Any) -> Any:
    block = _unwrapped(value)
    if isinstance(block, dict):
        return {k: _text(v) for k, v in block.items()}
    return block


def _text(value: Any) -> Any:
    return (
        ("true" if value else "false")
        if isinstance(value, bool)
        else str(value)
        if isinstance(value, int | float)
        else value
    )


Duration = Annotated[float, BeforeValidator(_seconds)]
TextMap = Annotated[dict[str, str], BeforeValidator(_text_map)]
TextList = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [_text(v) for v in value] if isinstance(value, list) else value)
]
Once = BeforeValidator(_unwrapped)


class Part(BaseModel):
    """A block of a job file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: ClassVar[str]
    labelled: ClassVar[bool] = False
    without_meaning: ClassVar[Mapping[str, str]] = {}
    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Block):
            return data
        notes: dict[str, str] = (info.context or {}).get("notes", {})
        kept: dict[str, Any] = {}
        where = " ".join([cls.block, *(f'"{label}"' for label in data.labels)])
        if len(data.labels) != cls.labelled:
            raise EmbeddedError(
                f"line {data.line}: {where}: {'one label is' if cls.labelled else 'no label is'} wanted"
            )
        if cls.labelled:
            if not _NAME.fullmatch(data.labels[0]):
                raise EmbeddedError(
                    f"line {data.line}: {where}: a name of 1 to 128 characters without blanks or slashes is wanted"
                )
            kept["name"] = data.labels[0]
        for key, value in data.items():
            at = f"line {data.lines.get(key, data.line)}: {where}"
            if key in cls.without_meaning:
                notes[f"{cls.block}.{key}"] = cls.without_meaning[key]
            elif key in cls.refused:
                raise EmbeddedError(f'{at}: "{key}" is not executed by the embedded engine: {cls.refused[key]}')
            elif key not in cls.model_fields:
                raise EmbeddedError(
                    f'{at}: the embedded engine does not know "{key}"; remove it, or run this job on Nomad'
                )
            elif value is not None:
                kept[key] = value
        try:
            return cls.adjusted(kept, data, info)
        except ValueError as error:
            raise EmbeddedError(f"line {data.line}: {where}: {error}") from error

    @classmethod
    def adjusted(cls, kept: dict[str, Any], block: Block, info: ValidationInfo) -> dict[str, Any]:
        """Change what was read before its types are checked."""
        del block, info
        return kept


_PLACEMENT = "there is one machine"
_ISOLATION = "a task is a process of the user who started the platform"
_FILES = "Nomad Variables do not change during a run, and nothing is written"
_KEPT = "logs are kept until the run is purged"


class Restart(Part):
    """What happens when a task fails."""

    block = "restart"
    without_meaning = {"render_templates": _FILES}
    attempts: int = Field(default=3, ge=0)
    interval: Duration = 86400.0
    delay: Duration = 15.0
    mode: Literal["fail"] = "fail"


class Reschedule(Part):
    """Accepted only as off: there is no other node to go to."""

    block = "reschedule"
    without_meaning = dict.fromkeys(("interval", "delay", "delay_function", "max_delay"), "rescheduling is off")
    attempts: Literal[0]
    unlimited: Literal[False] = False


class Lifecycle(Part):
    """When a task runs, if it is not a main task."""

    block = "lifecycle"
    hook: Literal["prestart", "poststop"]
    sidecar: Literal[False] = False


class TaskResources(Part):
    """What a task asks for; the scheduler counts it, nothing enforces it."""

    block = "resources"
    without_meaning = {"memory_max": "no memory limit is enforced"}
    refused = {
        "cores": "ask by cpu, 1000 a core",
        "network": "tasks share this machine's network; a port cannot be given",
        "device": "devices are not handed out",
        "numa": "cores are not pinned",
        "secrets": "nothing limits it",
    }
    cpu: int = Field(default=100, ge=1)
    memory: int = Field(default=300, ge=10)

    @property
    def amount(self) -> Resources:
        """For the scheduler."""
        return Resources(self.cpu, self.memory)


FILE = (
    "template: no file is written by the embedded engine; write env = true, or put the text below the condition "
    '{{ if nomadVarExists "path" }} of a Variable that only a real Nomad has'
)


class Template(Part):
    """Text rendered from Nomad Variables into a task's environment; a file is accepted that has nothing in it here."""

    block = "template"
    without_meaning = dict.fromkeys(
        (
            "change_mode",
            "change_signal",
            "change_script",
            "splay",
            "wait",
            "once",
            "perms",
            "uid",
            "gid",
            "vault_grace",
        ),
        _FILES,
    )
    refused = {
        "source": "give the text by data",
        "left_delimiter": "write {{ }}",
        "right_delimiter": "write {{ }}",
    }
    data: str
    destination: str
    env: bool = False
    error_on_missing_key: bool = True

    @classmethod
    def adjusted(cls, kept: dict[str, Any], block: Block, info: ValidationInfo) -> dict[str, Any]:
        """Refuse what could not be rendered later."""
        del info
        if isinstance(text := kept.get("data"), str):
            try:
                templates.check(text)
                if kept.get("env") is not True and templates.text_of(text, {}).strip():
                    raise EmbeddedError(FILE)
            except EmbeddedError as error:
                raise EmbeddedError(f"line {block.line}: {error}") from error
        return kept


class VolumeMount(Part):
    """Where a task sees a volume."""

    block = "volume_mount"
    without_meaning = {
        "read_only": "there are no mounts on one machine",
        "propagation_mode": "there are no mounts on one machine",
        "selinux_label": "there are no mounts on one machine",
    }
    volume: str
    destination: str = Field(pattern=r"^/[^/].*$")


class Volume(Part):
    """A folder that runs share."""

    block = "volume"
    labelled = True
    without_meaning = {
        "read_only": "there are no mounts on one machine",
        "access_mode": _PLACEMENT,
        "attachment_mode": _PLACEMENT,
        "sticky": _PLACEMENT,
    }
    refused = {"per_alloc": "that is for CSI volumes", "mount_options": "that is for CSI volumes"}
    name: str
    type: Literal["host"]
    source: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z_.-]*$")


class DockerConfig(Part):
    """What the docker driver would run: the image's code as a process."""

    block = "config"
    without_meaning = {
        **dict.fromkeys(
            ("auth", "auth_soft_fail", "force_pull", "image_pull_timeout", "container_exists_attempts"),
            "no image is pulled",
        ),
        **dict.fromkeys(
            (
                "advertise_ipv6_address", "cap_add", "cap_drop", "cgroupns", "dns_options", "dns_search_domains",
                "dns_servers", "extra_hosts", "group_add", "healthchecks", "hostname", "init", "ipc_mode", "labels",
                "logging", "mac_address", "network_aliases", "oom_score_adj", "pid_mode",
                "readonly_rootfs", "runtime", "security_opt", "shm_size", "sysctl", "ulimit", "userns_mode", "uts_mode",
            ),
            _ISOLATION,
        ),
        "network_mode": "tasks share this machine's network; what loads a model is confined by `mlops-registry score`",
        **dict.fromkeys(
            ("cpu_cfs_period", "cpu_hard_limit", "cpuset_cpus", "memory_hard_limit", "pids_limit", "storage_opt"),
            "no limit is enforced",
        ),
    }  # fmt: skip
    refused = {
        **dict.fromkeys(("mount", "mounts", "volumes", "volume_driver"), "use a host volume and volume_mount"),
        **dict.fromkeys(("ports", "port_map", "ipv4_address", "ipv6_address"), "a port cannot be given"),
        **dict.fromkeys(("devices", "privileged"), "a task gets no more rights than its user"),
        "work_dir": "the image's own WORKDIR is used",
        "load": "no image is loaded; its code is run from images/",
        "interactive": "nobody is there to answer",
        "tty": "nobody is there to answer",
        "isolation": "that is for Windows",
    }
    image: str
    entrypoint: TextList | None = None
    command: str | None = None
    args: TextList | None = None


class ExecConfig(Part):
    """What the exec driver would run: a program of this machine."""

    block = "config"
    without_meaning = dict.fromkeys(
        ("cap_add", "cap_drop", "denied_host_uids", "denied_host_gids", "ipc_mode", "no_new_privs", "pid_mode"),
        _ISOLATION,
    )
    refused = {"work_dir": "a task starts in its own folder"}
    command: str
    args: TextList = ()


_DRIVERS: dict[str, type[DockerConfig | ExecConfig]] = {"docker": DockerConfig, "exec": ExecConfig}


class Task(Part):
    """One process."""

    block = "task"
    labelled = True
    without_meaning = {
        **dict.fromkeys(("affinity", "constraint"), _PLACEMENT),
        "user": _ISOLATION,
        "logs": _KEPT,
        "identity": "nothing on this machine asks for one",
        "kind": "there is no Consul",
    }
    refused = {
        "action": "actions need a running task to attach to",
        "artifact": "put files into the image",
        "consul": "there is no Consul",
        "csi_plugin": "there is no CSI",
        "dispatch_payload": "pass values by meta",
        "schedule": "a task runs as soon as it may",
        "scaling": "there is no autoscaler",
        "secret": "use a template with nomadVar and env = true",
        "service": "there is no service discovery",
        "shutdown_delay": "there is no service to take out of discovery",
        "vault": "there is no Vault; use a template with nomadVar and env = true",
    }
    name: str
    driver: Literal["docker", "exec"]
    config: DockerConfig | ExecConfig
    env: TextMap = {}
    meta: TextMap = {}
    leader: bool = False
    lifecycle: Annotated[Lifecycle | None, Once] = None
    resources: Annotated[TaskResources, Once] = TaskResources()
    restart: Annotated[Restart | None, Once] = None
    template: tuple[Template, ...] = ()
    volume_mount: tuple[VolumeMount, ...] = ()
    kill_timeout: Duration = 5.0
    kill_signal: Literal["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2"] | None = None

    @classmethod
    def adjusted(cls, kept: dict[str, Any], block: Block, info: ValidationInfo) -> dict[str, Any]:
        """Read the driver's own configuration."""
        driver = kept.get("driver")
        if driver not in _DRIVERS:
            raise ValueError(f'driver "{driver}" is not executed by the embedded engine; use docker or exec')
        if isinstance(config := _unwrapped(kept.get("config", [Block(block.line)])), Block):
            try:
                kept["config"] = _DRIVERS[driver].model_validate(config, context=info.context)
            except ValidationError as error:
                raise _explained(error, config, f"task {block.labels[0]} > config") from error
        environment = _unwrapped(kept.get("env"))
        for key, value in environment.items() if isinstance(environment, dict) else ():
            if isinstance(value, str) and '${env["' in value:
                raise ValueError(
                    f'env {key}: Nomad replaces ${{env["..."]}} in config only; write ${{NOMAD_META_x}} here'
                )
        return kept

    @property
    def hook(self) -> Literal["prestart", "main", "poststop"]:
        """The stage it belongs to."""
        return self.lifecycle.hook if self.lifecycle else "main"


class Group(Part):
    """Tasks that make one allocation."""

    block = "group"
    labelled = True
    without_meaning = {
        **dict.fromkeys(("affinity", "constraint", "spread", "ephemeral_disk"), _PLACEMENT),
        **dict.fromkeys(
            ("disconnect", "max_client_disconnect", "stop_after_client_disconnect", "prevent_reschedule_on_lost"),
            "there is no node to lose; a run that ends with the platform is lost and is not replaced",
        ),
        **dict.fromkeys(("migrate", "update"), "Nomad does not use it for batch jobs"),
    }
    refused = {
        "consul": "there is no Consul",
        "max_run_duration": "stop a run by hand",
        "network": "tasks share this machine's network; a port cannot be given",
        "scaling": "there is no autoscaler",
        "service": "there is no service discovery",
        "shutdown_delay": "there is no service to take out of discovery",
        "vault": "there is no Vault",
    }
    name: str
    count: int = Field(default=1, ge=1, le=1000)
    meta: TextMap = {}
    restart: Annotated[Restart, Once] = Restart()
    reschedule: Annotated[Reschedule | None, Once] = None
    volume: tuple[Volume, ...] = ()
    task: tuple[Task, ...]

    @classmethod
    def adjusted(cls, kept: dict[str, Any], block: Block, info: ValidationInfo) -> dict[str, Any]:
        """Give tasks the group's restart block, with what they set themselves."""
        del block
        if "reschedule" not in kept:
            (info.context or {}).get("notes", {})["group.reschedule (absent)"] = (
                "Nomad would try a failed allocation once more under another id; here it ends as failed"
            )
        shared = _unwrapped(kept.get("restart"))
        for task in kept.get("task") or ():
            own = _unwrapped(task.get("restart")) if isinstance(task, Block) else None
            if isinstance(shared, Block) and isinstance(own, Block):
                merged = Block(own.line)
                merged.update({**shared, **own})
                merged.lines = own.lines
                task["restart"] = [merged]
        return kept

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [task.name for task in self.task]
        if len(set(names)) != len(names):
            raise ValueError("two tasks have one name")
        if not any(task.hook == "main" for task in self.task):
            raise ValueError("a main task (one without lifecycle) is wanted")
        if sum(task.leader for task in self.task) > 1:
            raise ValueError("only one task may be the leader")
        volumes = {volume.name for volume in self.volume}
        for task in self.task:
            if unknown := {mount.volume for mount in task.volume_mount} - volumes:
                raise ValueError(
                    f"task {task.name} mounts a volume that the group does not declare: {', '.join(sorted(unknown))}"
                )
        return self

    @property
    def amount(self) -> Resources:
        """What an allocation holds."""
        return Resources(*total((task.hook, False, task.resources.cpu, task.resources.memory) for task in self.task))


class Parameterized(Part):
    """What a dispatch must and may carry."""

    block = "parameterized"
    payload: Literal["optional", "forbidden"] = "optional"
    meta_required: tuple[str, ...] = ()
    meta_optional: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if both := set(self.meta_required) & set(self.meta_optional):
            raise ValueError(f"meta keys are both required and optional: {', '.join(sorted(both))}")
        return self


class Job(Part):
    """A parameterized batch job."""

    block = "job"
    labelled = True
    without_meaning = {
        **dict.fromkeys(
            ("affinity", "all_at_once", "constraint", "datacenters", "node_pool", "region", "spread"), _PLACEMENT
        ),
        "namespace": "there is one namespace, default",
        "priority": "runs start in the order of dispatch",
        "ui": "there is no web interface",
        "update": "Nomad does not use it for batch jobs",
    }
    refused = {
        "migrate": "that is for services",
        "multiregion": "there is one region",
        "periodic": "dispatch it by cron or by hand",
        "reschedule": "write it into the group",
        "restart": "write it into the group",
        "task": "write a group around it",
        "vault": "there is no Vault",
    }
    name: str
    id: str = Field(pattern=_NAME.pattern)
    type: Literal["batch"]
    meta: TextMap = {}
    parameterized: Annotated[Parameterized, Once]
    group: tuple[Group, ...]

    @classmethod
    def adjusted(cls, kept: dict[str, Any], block: Block, info: ValidationInfo) -> dict[str, Any]:
        """The label is the id, and the name unless one is given."""
        del info
        kept["name"] = block.get("name") or block.labels[0]
        return {"id": block.labels[0], **kept}

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [group.name for group in self.group]
        if len(set(names)) != len(names):
            raise ValueError("two groups have one name")
        return self

    def amount(self) -> Resources:
        """The most that one allocation of it holds."""
        return Resources.largest(*(group.amount for group in self.group))


PARTS: tuple[type[Part], ...] = (
    Job, Parameterized, Group, Volume, Restart, Reschedule,
    Task, Lifecycle, TaskResources, Template, VolumeMount, DockerConfig, ExecConfig,
)  # fmt: skip


def parse(source: str, values: Mapping[str, str]) -> tuple[Job, list[str]]:
    """Read a job file with the values of its variables.

    Returns:
      The job, and a note for each thing in it that means nothing on one machine.

    Raises:
      EmbeddedError: A mistake, or something that is not executed, by name and line.
    """
    try:
        top = evaluate(source, values)
    except HclError as error:
        raise EmbeddedError(str(error)) from error
    for key in top:
        if key != "job":
            raise EmbeddedError(
                f'line {top.lines.get(key, 1)}: the embedded engine does not know "{key}"; a job, variables and locals'
                " are wanted"
            )
    jobs = top.get("job") or []
    if len(jobs) != 1 or not isinstance(jobs[0], Block):
        raise EmbeddedError("one job block is wanted")
    notes: dict[str, str] = {}
    try:
        job = Job.model_validate(jobs[0], context={"notes": notes})
    except ValidationError as error:
        raise _explained(error, jobs[0]) from error
    return job, [f"{name} has no effect here: {why}" for name, why in sorted(notes.items())]


def _explained(error: ValidationError, block: Block, what: str = "job") -> EmbeddedError:
    first = error.errors(include_url=False)[0]
    place: Any = block
    line = block.line
    words = [what]
    for step in first["loc"]:
        while isinstance(place, list) and len(place) == 1 and not isinstance(step, int):
            place = place[0]
        if isinstance(place, Block):
            line = place.lines.get(str(step), place.line)
        try:
            place = place[cast("Any", step)]
        except (KeyError, IndexError, TypeError):
            place = None
        if isinstance(place, Block):
            line = place.line
        if isinstance(step, str):
            words.append(step)
    problem = first["msg"].removeprefix("Value error, ")
    return EmbeddedError(f"line {line}: {' > '.join(words)}: {problem[0].lower()}{problem[1:]}")


def lists() -> Iterator[tuple[str, list[str], Mapping[str, str], Mapping[str, str]]]:
    """For each block: what is executed, what is without meaning here, what is refused with its own advice."""
    for part in PARTS:
        name = "config (docker)" if part is DockerConfig else "config (exec)" if part is ExecConfig else part.block
        fields = [field for field in part.model_fields if not (part.labelled and field == "name" and part is not Job)]
        yield name, fields, part.without_meaning, part.refused
