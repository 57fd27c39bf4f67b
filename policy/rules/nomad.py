"""Rules on Nomad jobs and on who may do what in Nomad: what a task may not do to its machine, a run not to its result.

"Nomad's documentation" is developer.hashicorp.com/nomad/docs, by the titles of its pages.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from definitions import durations
from definitions.nomad import hcl, jobspec
from infra import credentials
from inventory.resources import Resource
from inventory.values import number
from policy.parts import nomad
from policy.rule import Level, Part, Rule, Stack, whole
from policy.rules.containers import is_pinned, registries

_POLICY = "nomad:index/aclPolicy:AclPolicy"
_NAMESPACE = "nomad:index/namespace:Namespace"
_DRIVERS = {"docker", "exec"}
_NAMESPACES = ("network_mode", "pid_mode", "ipc_mode", "uts_mode", "userns_mode", "cgroupns")
_SHELLS = re.compile(r"^(.*/)?((ba|da|a|z|k)?sh|python[\d.]*|node|perl|ruby)$")
_META = re.compile(r"\$\{(NOMAD_META_|meta\.|env\[\\?\"NOMAD_META_)")
_EXPRESSION = re.compile(r"\$\{.*?\}")
_VARIABLE = re.compile(r"\bvar\.(\w+)")
_SCRIPT = re.compile(r"\.(sh|bash|py|js|pl|rb)$")
_LOADS = {"score", "verify", "predict"}
"""What of `mlops-registry` loads a model."""
_STRONG = {"submit-job", "alloc-exec", "alloc-node-exec", "csi-write-volume", "variables-write", "sentinel-override"}


def _on(value: object) -> bool:
    # An expression is taken for what it may turn out to be.
    return value not in (None, False, "false")


def _readable(registered: Part, _: Stack) -> Iterator[str]:
    if _on(registered.get("hcl2", "allowFs")):
        yield "hcl2.allowFs puts files into it of the machine that registers it"
    if _on(registered.get("json")):
        yield "it is registered as JSON, which no rule looks into"
        return
    try:
        parsed = jobspec.parse(str(registered.get("jobspec")), "the jobspec")
    except jobspec.JobspecError as error:
        yield str(error)
        return
    if "dynamic" in _keys(parsed.body):
        yield "it has dynamic blocks, whose content only Nomad knows"


def _keys(value: Any) -> Iterator[str]:
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _keys(inner)
    if isinstance(value, Mapping):
        yield from value


def _privileged(task: Part, _: Stack) -> Iterator[str]:
    for config in task.each("config"):
        if _on(config.get("privileged")):
            yield f"config.privileged is {config['privileged']}"


def _driver(task: Part, _: Stack) -> Iterator[str]:
    if (driver := task.get("driver")) not in _DRIVERS:
        yield f"driver is {driver or 'not set'}"


def _host_namespace(task: Part, _: Stack) -> Iterator[str]:
    for config in nomad.blocks(task, "config"):
        for key in _NAMESPACES:
            value = str(config.get(key) or "")
            if value == "host" or value.startswith("container:") or "${" in value:
                yield f"config.{key} is {value}"


def _host_network(group: Part, _: Stack) -> Iterator[str]:
    for network in nomad.blocks(group, "network"):
        if network.get("mode") == "host":
            yield "network.mode is host"


def _host_files(task: Part, _: Stack) -> Iterator[str]:
    for config in nomad.blocks(task, "config"):
        for volume in config.each("volumes"):
            yield f"config.volumes has {volume}"
        for kind in ("mount", "mounts"):
            for mount in nomad.blocks(config, kind):
                if mount.get("type") not in ("volume", "tmpfs"):
                    yield f"config.{kind} binds {mount.get('source') or 'a path of the machine'}"
        if config.each("devices"):
            yield "config.devices gives it devices of the machine"


def _pinned(task: Part, _: Stack) -> Iterator[str]:
    if task.get("driver") == "docker":
        for config in nomad.blocks(task, "config"):
            image = str(config.get("image") or "")
            if not is_pinned(image):
                yield f"image {image or 'is not set and'} is not pinned: its tag is neither a version nor a hash"


def _registry(task: Part, stack: Stack) -> Iterator[str]:
    if task.get("driver") == "docker":
        for config in nomad.blocks(task, "config"):
            image = str(config.get("image") or "")
            if image and not image.startswith(registries(stack)):
                yield f"image {image} is from none of the stack's repositories"


def _limits(task: Part, _: Stack) -> Iterator[str]:
    found = list(nomad.blocks(task, "resources"))
    if not any(one.get("cpu") or one.get("cores") for one in found):
        yield "resources.cpu is not set"
    if not any(one.get("memory") for one in found):
        yield "resources.memory is not set"
    if any(one.get("memory_max") is not None for one in found):
        yield "resources.memory_max lets it take memory that its machine may not have"


def _user(task: Part, _: Stack) -> Iterator[str]:
    user = str(task.get("user") or "")
    if not user and task.get("driver") == "docker":
        yield "user is not set, so that the image chooses"
    elif user.partition(":")[0] in ("root", "0") or "${" in user:
        yield f"user is {user}"


def _capabilities(task: Part, _: Stack) -> Iterator[str]:
    for config in nomad.blocks(task, "config"):
        if "all" not in [str(one).lower() for one in config.each("cap_drop")]:
            yield "config.cap_drop is without all"
        if added := config.each("cap_add"):
            yield f"config.cap_add has {', '.join(map(str, added))}"


def _confined(task: Part, _: Stack) -> Iterator[str]:
    if task.get("driver") == "docker":
        for config in nomad.blocks(task, "config"):
            options = [str(one).replace(":", "=") for one in config.each("security_opt")]
            if not {"no-new-privileges", "no-new-privileges=true"} & set(options):
                yield "config.security_opt is without no-new-privileges"
            if loose := [one for one in options if one.endswith("=unconfined") or one == "label=disable"]:
                yield f"config.security_opt has {', '.join(loose)}"
            if not _on(config.get("readonly_rootfs")):
                yield "config.readonly_rootfs is not true"


def _credential(of: Part, _: Stack) -> Iterator[str]:
    """By the name or the looks of a text; the text itself is never told."""
    for path, text in nomad.texts(of.value):
        named = path[-1] if path else ""
        # The names of what is no setting of a program's say nothing: `identity.name`, `template.data`.
        set_by_name = {"env", "meta", "config", "vars"} & set(path[:-1]) and not text.startswith("/")
        if (set_by_name and credentials.is_literal(named, text)) or credentials.is_value(text):
            yield f"{'.'.join(path)} holds what looks like a credential"


def _given(resource: Resource) -> Iterable[Part]:
    for of in nomad.job(resource):
        yield of
        yield Part(resource, {"vars": Part(resource, resource.inputs).get("hcl2", "vars") or {}}, "hcl2")


def _asked(of: Part, _: Stack) -> Iterator[str]:
    for parameterized in nomad.blocks(of, "parameterized"):
        for kind in ("meta_required", "meta_optional"):
            for name in parameterized.each(kind):
                if credentials.is_literal(str(name), "given"):
                    yield f"parameterized.{kind} asks for {name}"


def _payload(of: Part, _: Stack) -> Iterator[str]:
    for parameterized in nomad.blocks(of, "parameterized"):
        if parameterized.get("payload") != "forbidden":
            yield f"parameterized.payload is {parameterized.get('payload') or 'not set, so optional'}"


def _shell(task: Part, _: Stack) -> Iterator[str]:
    for config in nomad.blocks(task, "config"):
        words = [str(one) for key in ("entrypoint", "command", "args") for one in config.each(key)]
        if any(_SHELLS.match(word) for word in words):
            for word in words:
                if _META.search(word):
                    yield f"config runs {_META.sub('${NOMAD_META_', word)[:80]} as text of a program"
    for template in nomad.blocks(task, "template"):
        target, data = str(template.get("destination") or ""), str(template.get("data") or "")
        executable = any(int(digit, 8) & 1 for digit in str(template.get("perms") or "0644") if digit in "01234567")
        if (_SCRIPT.search(target) or executable) and "NOMAD_META_" in data:
            yield f"template {target} writes a run's parameter into a program"


def _replaced(group: Part, _: Stack) -> Iterator[str]:
    if group.outer is None or group.outer.get("type") != "batch":
        return
    restarts = list(nomad.blocks(group, "restart"))
    if not restarts or any(one.get("mode") not in (None, "fail") for one in restarts):
        yield "restart.mode is not fail, so that what fails starts again for ever"
    reschedules = list(nomad.blocks(group, "reschedule"))
    if not reschedules or any(one.get("attempts") != 0 or _on(one.get("unlimited")) for one in reschedules):
        yield "reschedule is not attempts = 0, so that a failed training is trained again under another version id"
    disconnects = list(nomad.blocks(group, "disconnect"))
    if not disconnects or any(one.get("replace") is not False or not one.get("lost_after") for one in disconnects):
        yield "disconnect is not replace = false with a lost_after, so that a lost training has a second one beside it"


def _artifact(task: Part, _: Stack) -> Iterator[str]:
    for artifact in nomad.blocks(task, "artifact"):
        options = [one.get("checksum") for one in nomad.blocks(artifact, "options")]
        if not any(options):
            yield f"artifact {artifact.get('source')} has no checksum"


def _versions(group: Part, stack: Stack) -> Iterator[str]:
    if group.outer is None or not group.outer.each("parameterized"):
        return
    count = 1 if group.get("count") is None else number(group.get("count"))
    if count is None or count > stack.parameters.versions_cap:
        yield f"count is {group.get('count')}, which is no number up to {stack.parameters.versions_cap}"


def _hosts(task: Part, stack: Stack) -> Iterator[str]:
    allowed = stack.parameters.credential_hosts
    for env in nomad.blocks(task, "env"):
        for key in env.value:
            if not str(key).endswith("_HOSTS"):
                continue
            text = str(env.get(key))
            hosts = _EXPRESSION.sub(",", text).split(",")
            for expression in _EXPRESSION.findall(text):
                names = _VARIABLE.findall(expression)
                if not names or "NOMAD_META_" in expression:
                    yield f"env.{key} has {expression}, which may be any host"
                assert task.resource, "a task is in a job"  # noqa: S101
                values = nomad.variables(task.resource)
                hosts += [str(one) for name in names for one in values.each(name)]
            for host in filter(None, map(str.strip, hosts)):
                name = host.partition(":")[0].lower()
                if not any(name == one or name.endswith(f".{one}") for one in allowed):
                    yield f"env.{key} has {host}, which is below none of {', '.join(allowed)}"


def _identity(task: Part, stack: Stack) -> Iterator[str]:
    for identity in nomad.blocks(task, "identity"):
        if identity.each("aud"):
            ttl = identity.get("ttl")
            if not ttl:
                yield f"identity {identity.get('name')} has no ttl"
            else:
                yield from _long(identity, str(ttl), stack.parameters.token_hours)
            if _on(identity.get("env")):
                yield f"identity {identity.get('name')} is in the environment, where it is never renewed"


def _scores(task: Part, _: Stack) -> Iterator[str]:
    for config in nomad.blocks(task, "config"):
        words = [str(one) for key in ("entrypoint", "command", "args") for one in config.each(key)]
        if not any(word.endswith("mlops-registry") for word in words) or not _LOADS & set(words):
            continue
        for kind in ("identity", "template", "vault", "consul", "secret"):
            if task.each(kind):
                yield f"it loads a model and has a block {kind}"
        if config.get("network_mode") != "none":
            yield f"it loads a model and config.network_mode is {config.get('network_mode') or 'not set'}"


def _last(task: Part, _: Stack) -> Iterator[str]:
    if any(one.get("hook") == "poststop" for one in nomad.blocks(task, "lifecycle")):
        for kind in ("identity", "vault", "consul"):
            if task.each(kind):
                yield f"it runs after the others (poststop) and has a block {kind}"


def _long(identity: Part, ttl: str, hours: int) -> Iterator[str]:
    try:
        too_long = durations.seconds(ttl) > hours * 3600
    except ValueError:
        too_long = True
    if too_long:
        yield f"identity {identity.get('name')} has the ttl {ttl}, which is no time up to {hours}h"


def _acl(policy: Part, _: Stack) -> Iterator[str]:
    try:
        rules = hcl.plain(str(policy.get("rulesHcl")))
    except hcl.HclError as error:
        yield f"rulesHcl cannot be read: {type(error.__cause__).__name__}"
        return
    if policy.get("name") == "anonymous":
        yield "it gives rights to whoever has no token"
    own = policy.get("jobAcl") is not None
    for kind in ("operator", "agent", "quota", "plugin", *(() if own else ("node",))):
        for block in rules.get(kind, []):
            if block.get("policy") == "write":
                yield f"{kind} is write"
    for name, body in jobspec.labelled(rules, "namespace"):
        strong = _STRONG & set(body.get("capabilities", []))
        if body.get("policy") in ("write", "scale") or strong:
            yield f"namespace {name} has {', '.join(sorted(strong)) or body['policy']}"
        if name == "*" and not own:
            yield "it is for every namespace, the platform's own among them"


def _namespace(namespace: Part, _: Stack) -> Iterator[str]:
    drivers = namespace.each("capabilities", "enabledTaskDrivers")
    if not drivers:
        yield "capabilities.enabledTaskDrivers is not set, so that it has all of them"
    if strange := sorted(set(map(str, drivers)) - _DRIVERS):
        yield f"capabilities.enabledTaskDrivers has {', '.join(strange)}"


def _job(
    what: str,
    holds: str,
    why: str,
    fix: str,
    check: Callable[[Part, Stack], Iterable[str]],
    parts: Callable[[Resource], Iterable[Part]] = nomad.tasks,
    *,
    types: tuple[str, ...] = (nomad.JOB,),
    across: bool = False,
) -> Rule:
    return Rule(f"nomad-{what}", Level.MANDATORY, holds, why, fix, check, types, parts, across=across)


RULES = (
    _job(
        "job-readable",
        "Every jobspec can be looked into.",
        "What no rule can read, no rule can judge: a job in another form would pass them all.",
        "Write it in HCL2, with blocks that are written out.",
        _readable,
        whole,
    ),
    _job(
        "task-privileged",
        "No task of a Nomad job runs as a privileged container.",
        "A privileged container is root on the machine; Nomad's docker driver documentation, `allow_privileged`.",
        "Remove `privileged` from the task's config, and add the one capability that it needs by `cap_add`.",
        _privileged,
    ),
    _job(
        "task-driver",
        "Every task runs by a driver that isolates it: docker or exec.",
        "raw_exec runs a task without any isolation, as the user of Nomad itself, which is root on a client (Nomad's "
        "documentation, Configure the Raw Fork/Exec task driver).",
        "Use the driver docker, or exec for a program of the machine.",
        _driver,
    ),
    _job(
        "task-host-namespace",
        "No task shares the machine's network, processes, IPC, users or host name, or those of a container.",
        "In the host's namespaces a task sees the processes and their environment, and reaches what listens on "
        "loopback; Nomad enforced it for docker only with the fix of CVE-2026-14891.",
        "Remove the mode from the task's config; ports are given by the group's network.",
        _host_namespace,
    ),
    _job(
        "group-host-network",
        "No group asks for the machine's network.",
        "What is on the machine's network reaches the metadata server and what listens on loopback, among it Nomad's "
        "agent (Nomad's documentation, network Block, `mode`).",
        "Remove `mode` from the group's network, or make it bridge.",
        _host_network,
        nomad.groups,
    ),
    _job(
        "task-host-files",
        "No task mounts a path or a device of its machine.",
        "A socket of Docker's or a path of the machine's is root on it; the clients refuse both (`volumes.enabled`), "
        "and a way around that was CVE-2026-14896.",
        "Use a host volume of the group (`volume`, `volume_mount`), which the machine's owner has named.",
        _host_files,
    ),
    _job(
        "task-image",
        "Every image is named by the hash of its content, a digest, or a whole version.",
        "Nomad pulls `latest`, or a name without a tag, anew at every start (Nomad's documentation, Use the Docker "
        "task driver in a job, `image`): what trained a model could not be said any more.",
        "Take the image from a variable image_<folder>, which the program fills.",
        _pinned,
    ),
    _job(
        "task-registry",
        "Every image is from a repository of the stack.",
        "CIS GKE Benchmark, Image Registry and Image Scanning, asks for approved registries only; it holds for "
        "Nomad's clients for the same reason: what runs is what was built, or was looked at.",
        "Build it in images/, or add its repository to image_registries in policy/stacks/.",
        _registry,
        across=True,
    ),
    _job(
        "task-limits",
        "Every task says how much CPU and memory it takes, and takes no more.",
        "Without them Nomad assumes 100 MHz and 300 MB, by which a training is killed, and places it where it does not "
        "fit (Nomad's documentation, resources Block).",
        "Set resources.cpu and resources.memory, and no memory_max.",
        _limits,
    ),
    _job(
        "task-user",
        "No task runs as root.",
        "Root in a container is one flaw of the kernel or of runc away from root on the machine; NSA/CISA Kubernetes "
        "Hardening Guide, Non-root containers, says it of every container.",
        'Set user to "65534:65534", or to another one that owns what it writes.',
        _user,
    ),
    _job(
        "task-capabilities",
        "Every task gives up all capabilities.",
        "What docker leaves by default is enough to forge packets and to read other users' files (Nomad's "
        "documentation, Use the Docker task driver in a job, `cap_drop`).",
        'Set cap_drop = ["all"], and no cap_add.',
        _capabilities,
    ),
    _job(
        "task-confined",
        "A container gains no rights by what it runs, keeps docker's seccomp profile, and cannot change its programs.",
        "A set-user-id program in an image would be root again, and a program that was changed would run on; CIS "
        "Docker Benchmark, Container Runtime Configuration.",
        'Set security_opt = ["no-new-privileges"] and readonly_rootfs = true.',
        _confined,
    ),
    _job(
        "credential",
        "No credential stands in a job: in meta, environment, config, templates, or the values of its variables.",
        "A jobspec is kept by Nomad in clear, and shown to everybody with read-job.",
        "Put it in the Nomad Variable nomad/jobs/<job>, and read it by a template with nomadVar.",
        _credential,
        _given,
    ),
    _job(
        "parameter-credential",
        "No parameter of a run is a credential.",
        "A dispatch's meta is merged into the run's job, kept in clear, shown by `nomad job inspect` and by the UI, "
        "and in the environment of every task.",
        "Read it from a Nomad Variable in the one task that needs it.",
        _asked,
        nomad.job,
    ),
    _job(
        "parameter-payload",
        "A run is given its parameters and nothing else.",
        "parameters.yaml checks every parameter of a run; a payload would be a way past it (Nomad's documentation, "
        "parameterized Block, `payload`).",
        'Set payload = "forbidden".',
        _payload,
        nomad.job,
    ),
    _job(
        "parameter-in-program",
        "No parameter of a run becomes text of a shell or a script.",
        "Nomad puts the value where ${NOMAD_META_...} stands before the shell reads it, so that whoever may dispatch "
        "may run commands in the task (OWASP, Command Injection).",
        "Give it to the task by env, and have the program read its environment.",
        _shell,
    ),
    _job(
        "training-replaced",
        "A run of a batch job is never replaced by a second one.",
        "A version id ends with the allocation's, so that a second one trains another model: docs/adr/0005; "
        "hashicorp/nomad issues 27028 and 27053.",
        "Take restart, reschedule and disconnect from jobs/sales_close_prediction/job.nomad.hcl.",
        _replaced,
        nomad.groups,
    ),
    _job(
        "artifact-checksum",
        "Every artifact that a task downloads is checked.",
        "What is at an address today need not be there tomorrow (Nomad's documentation, artifact Block, "
        "`checksum` of its options).",
        'Add options { checksum = "sha256:..." }, or put it in the image.',
        _artifact,
    ),
    _job(
        "identity-expires",
        "A task's identity for others expires soon, and is renewed in a file.",
        "Without a ttl a stolen one is good as long as the task runs, and with a long one for longer (Nomad's "
        "documentation, identity Block, `ttl`).",
        "Set ttl to an hour or so, file = true, and no env; token_hours in policy/stacks/ is the bound.",
        _identity,
    ),
    _job(
        "scoring-apart",
        "A task that loads a model has no identity, no secret and no network.",
        "A model is code of whoever could write to the bucket: with an identity or a way out it would have the rights "
        "of the task (docs/adr/0013; MITRE ATLAS, AML.T0010 and AML.T0011.000).",
        "Let one task fetch and record (`store --verify-in`), and another one `score`, with network_mode none.",
        _scores,
    ),
    _job(
        "poststop-identity",
        "A poststop task needs no identity.",
        "Nomad ends its identity manager before poststop tasks start where a run failed or was stopped: such a task "
        "waits for a minute and then has no token (client/allocrunner/taskrunner/identity_hook.go of Nomad 2.0.5).",
        "Do what needs an identity in a main task, and only clear up in the poststop task.",
        _last,
    ),
    _job(
        "dispatch-count",
        "One dispatch makes no more versions than the stack's policies allow.",
        "Each allocation of a dispatch trains and stores a version of its own, and waits for room on a machine of its "
        "own (Nomad's documentation, group Block, `count`).",
        "Set jobs.<job>.count to a few, or versions_cap in policy/stacks/.",
        _versions,
        nomad.groups,
    ),
    _job(
        "credential-hosts",
        "The hosts that a job may send credentials to, an environment variable ..._HOSTS, are those of the policies.",
        "The address of the data is a parameter of a run: with a host of their own among the allowed ones, whoever may "
        "dispatch is sent the credentials (CWE-522, Insufficiently Protected Credentials).",
        "Remove the host from the job's variables, or name it in credential_hosts in policy/stacks/.",
        _hosts,
    ),
    _job(
        "acl-policy",
        "Nobody but a task of the platform's own may change machines, and nobody what runs.",
        "Who may submit a job may run anything on every client; jobs are registered by this program alone (Nomad's "
        "documentation, Access Control, ACL policy specification).",
        "Give the role in infra/nomad/access.py the capabilities that it needs by name, in one namespace.",
        _acl,
        whole,
        types=(_POLICY,),
    ),
    _job(
        "namespace-drivers",
        "A namespace has the drivers docker and exec alone.",
        "A job that got past all else could still not run by raw_exec (Nomad's documentation, namespace, "
        "`capabilities.enabled_task_drivers`).",
        "Set enabled_task_drivers in infra/nomad/access.py to docker and exec.",
        _namespace,
        whole,
        types=(_NAMESPACE,),
    ),
)
