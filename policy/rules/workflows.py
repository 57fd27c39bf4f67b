"""Rules on workflows: that a run ends, leaves nothing behind, repeats no harm, and runs what was registered.

What holds for any pod is in `containers.py`. Argo's pages are those of its documentation for release 4.0.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from definitions import cron
from definitions.argo.views import given, tasks
from definitions.pods import LEAVES
from inventory.resources import Resource
from inventory.values import number
from policy.parts import workflows
from policy.parts.pods import ANY, containers
from policy.parts.workflows import CRON, WORKFLOWS
from policy.rule import Level, Part, Rule, Stack

_CHANGES = ("create", "apply", "patch", "replace")
_KINDS = ("SparkApplication",)
_RETRIES = 10
_INTERPRETER = re.compile(r"(^|/)((ba|da|a|z|k)?sh|python[\d.]*|node|perl|ruby|php|pwsh|Rscript)$")
_RUNS_TEXT = re.compile(r"-[a-z]*[ce]|--eval")
_UID = re.compile(r"\{\{(=.*\b)?\s*workflow\.uid\b.*?\}\}")
_OWN = re.compile(r"[\w./-]+==?\{\{\s*workflow\.uid\s*\}\}")
_STORES = ("artifactory", "azure", "gcs", "git", "hdfs", "http", "oss", "plugin", "raw", "s3")
_PUBLISHES = re.compile(r"(publish|deploy|upload)|\S*-maven\.pkg\.dev/\S*")
_WHOLE = re.compile(r"\s*(- )?([\w.\-/]+: )?\{\{=\s*toJson\(.*\)\s*\}\}\s*")


def _specs_and_leaves(resource: Resource) -> Iterable[Part]:
    yield from workflows.specs(resource)
    yield from _leaves(resource)


def _specs_and_templates(resource: Resource) -> Iterable[Part]:
    yield from workflows.specs(resource)
    yield from workflows.templates(resource)


def _leaves(resource: Resource) -> Iterator[Part]:
    return (one for one in workflows.templates(resource) if any(one.get(kind) is not None for kind in LEAVES))


def _deadline(part: Part, _: Stack) -> Iterator[str]:
    seconds = part.get("activeDeadlineSeconds")
    if not number(seconds):
        yield f"activeDeadlineSeconds is {'not set' if seconds is None else seconds}"


def _cleanup(spec: Part, _: Stack) -> Iterator[str]:
    kept = {end: spec.get("ttlStrategy", f"secondsAfter{end}") for end in ("Completion", "Success", "Failure")}
    if kept["Completion"] is None and (kept["Success"] is None or kept["Failure"] is None):
        yield "ttlStrategy does not say when ended workflows are deleted"
    if not spec.get("podGC", "strategy"):
        yield "podGC.strategy is not set, so that pods stay as long as their workflow"


def _parallelism(spec: Part, _: Stack) -> Iterator[str]:
    if not number(spec.get("parallelism")):
        yield "parallelism is not set"


def _retry(template: Part, _: Stack) -> Iterator[str]:
    strategy, where = template.get("retryStrategy"), "retryStrategy"
    if strategy is None:
        return
    limit = number(template.get(where, "limit"))
    if limit is None or limit > _RETRIES:
        yield f"retryStrategy.limit is {template.get(where, 'limit') or 'not set'}, which is no number up to {_RETRIES}"
    if not template.get(where, "backoff", "duration"):
        yield "retryStrategy.backoff is not set, so that it is repeated at once"
    policy, action = template.get(where, "retryPolicy"), template.get("resource", "action")
    expression = str(template.get(where, "expression") or "")
    if action == "create":
        if policy in ("OnError", "OnTransientError"):
            yield f"retryStrategy.retryPolicy is {policy}, so that what could not be created, which is Failed, is left"
        elif not re.search(r"!\s*\(?\s*lastRetry\.message\b.*failure condition", expression):
            yield "retryStrategy.expression does not except 'failure condition', so that what failed is created again"
    elif policy == "Always" and action is None and not template.get(where, "expression"):
        yield "retryStrategy.retryPolicy is Always without an expression, so that every answer of the step is repeated"


def _found_again(template: Part, _: Stack) -> Iterator[str]:
    if template.get("memoize") is not None and template.get("retryStrategy") is not None:
        yield "it has both memoize and retryStrategy, so that nothing that waits for it starts once a result was found"


def _command(container: Part, _: Stack) -> Iterator[str]:
    pod = container.outer
    # Of a SparkApplication the operator makes the command.
    if pod and pod.outer and pod.outer.get("kind") == "SparkApplication":
        return
    if not container.each("command"):
        yield "command is not set"


def _loads_a_model(template: Part) -> str:
    """What of the registry's program a template runs that loads a model; empty if nothing."""
    words = [str(word) for key in ("command", "args") for word in template.each("container", key)]
    registry = words[0].rpartition("/")[2] if words else ""
    return words[1] if registry == "mlops-registry" and words[1:] and words[1] in ("score", "verify") else ""


def _loads_apart(spec: Part, _: Stack) -> Iterator[str]:
    templates = [spec.inner(one, "") for one in spec.each("templates")]
    others = [one.get("serviceAccountName") for one in templates if not _loads_a_model(one)]
    for template in templates:
        what, account = _loads_a_model(template), template.get("serviceAccountName")
        if what == "verify":
            yield f"template {template.get('name')} loads a model, and has the right to record what became of it"
        elif what and (account is None or account in others or account == spec.get("serviceAccountName")):
            yield f"template {template.get('name')} loads a model as {account or 'the workflow'}, like other steps"


def _left_over(template: Part, _: Stack) -> Iterator[str]:
    if template.get("resource", "action") not in ("create", "apply"):
        return
    if template.get("resource", "setOwnerReference") is not True:
        yield "resource.setOwnerReference is not true, so that what it makes outlives the workflow"
    for condition in ("successCondition", "failureCondition"):
        text = template.get("resource", condition)
        if not text:
            yield f"resource.{condition} is not set"
        elif "executorState" in text:
            yield f"resource.{condition} asks for executorState, which may say FAILED of what was completed"


def _kinds(template: Part, _: Stack) -> Iterator[str]:
    if template.get("resource", "action") not in _CHANGES:
        return
    text = template.get("resource", "manifest")
    documents = workflows.read(text or "")
    if not text or not documents:
        yield f"resource.manifest is {'no YAML' if text else 'not set'}, so that nothing can be said of what it makes"
    for document in documents or []:
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind not in _KINDS:
            yield f"it makes a {kind}, which no rule looks into; only {', '.join(_KINDS)} may be made"


def _in_manifest(template: Part, _: Stack) -> Iterator[str]:
    for line in str(template.get("resource", "manifest") or "").splitlines():
        if (spliced := given(line)) and not _WHOLE.fullmatch(line):
            yield f"resource.manifest has {spliced[0]} as it is: a value with a line break in it adds lines"
    for flag in template.each("resource", "flags"):
        if spliced := given(str(flag)):
            yield f"resource.flags has {spliced[0]}, which may be another option of kubectl"


def _patch(part: Part, _: Stack) -> Iterator[str]:
    if spliced := given(str(part.get("podSpecPatch") or "")):
        yield f"podSpecPatch has {spliced[0]}: its value may change everything in the pod"


def _manifest_or_patch(part: Part, stack: Stack) -> Iterator[str]:
    yield from _in_manifest(part, stack)
    yield from _patch(part, stack)


def _in_code(container: Part, _: Stack) -> Iterator[str]:
    if spliced := given(str(container.get("source") or "")):
        yield f"{_listed(spliced)} becomes part of its script"
    command = [str(word) for word in container.each("command")]
    words = [*command, *(str(word) for word in container.each("args"))]
    if command and (spliced := given(words[0])):
        yield f"{_listed(spliced)} says which program is started"
    starts = [number for number, word in enumerate(words[:3]) if _INTERPRETER.search(word)]
    # With arguments alone, the image's entry point may be a shell.
    first = starts[0] + 1 if starts else 0 if words and not command and _RUNS_TEXT.fullmatch(words[0]) else len(words)
    for option, text in zip(words[first:], words[first + 1 :], strict=False):
        if _RUNS_TEXT.fullmatch(option):
            if spliced := given(text):
                yield f"{_listed(spliced)} becomes part of the text that {' '.join(words[:first])} {option} runs"
            return
        if not option.startswith("-") and ("/" in option or "." in option):
            return  # A program's file: what follows are its arguments.


def _listed(spliced: list[str]) -> str:
    return ", ".join(sorted(set(spliced)))


def _overwritten(template: Part, _: Stack) -> Iterator[str]:
    for one in template.each("outputs", "artifacts"):
        artifact = template.inner(one, "")
        if artifact.get("from") or artifact.get("fromExpression"):
            continue  # It is another template's.
        keys = [key for store in _STORES if (key := artifact.get(store, "key"))]
        if not all(_UID.search(str(key)) for key in keys) or not keys:
            yield f"artifact {artifact.get('name')} has the key {keys[0] if keys else 'of the artifact repository'}"


def _others(template: Part, _: Stack) -> Iterator[str]:
    if template.get("resource", "action") != "delete":
        return
    flags = [str(flag) for flag in template.each("resource", "flags")]
    joined = " ".join(flags)
    if wide := [flag for flag in flags if flag.partition("=")[0] in ("--all", "--all-namespaces", "-A")]:
        yield f"resource.flags has {wide[0]}, which is whatever other runs have made"
    selectors = re.findall(r"(?:--selector|-l)[= ]?(\{\{.*?\}\}|\S+?(?:\{\{.*?\}\}\S*)*)(?= |$)", joined)
    documents = workflows.read(str(template.get("resource", "manifest") or "")) or []
    named = [template.inner(one, "").get("metadata", "name") for one in documents]
    # Of several, kubectl takes the last.
    own = bool(selectors) and any(_OWN.fullmatch(term) for term in selectors[-1].split(","))
    if not own and not (named and all(_UID.search(str(name)) for name in named)):
        yield "it selects by no label that is {{workflow.uid}}, so that it deletes what other runs have made"


def _publishes(one: Part, by_name: dict[str, Part], seen: set[str]) -> bool:
    """Whether a template publishes something, or calls one that does."""
    words = [
        *(str(word) for kind in ("container", "script") for key in ("command", "args") for word in one.each(kind, key)),
        *str(one.get("script", "source") or "").split(),
    ]
    if any(_PUBLISHES.fullmatch(word) for word in words):
        return True
    return any(_calls_publisher(task, by_name, seen) for task in tasks(one))


def _calls_publisher(task: Part, by_name: dict[str, Part], seen: set[str]) -> bool:
    name = str(task.get("template"))
    if inline := task.get("inline"):
        return _publishes(task.inner(inline, ""), by_name, seen)
    if name in seen or name not in by_name:
        return False
    seen.add(name)
    return _publishes(by_name[name], by_name, seen)


def _waits(template: Part) -> dict[str, set[str]]:
    """What each task waits for the success of, directly or not."""
    direct: dict[str, set[str]] = {}
    before: set[str] = set()
    for group in template.each("steps"):
        names = {str(template.inner(one, "").get("name")) for one in (group if isinstance(group, list) else [group])}
        direct |= {name: set(before) for name in names}
        before |= names
    for one in template.each("dag", "tasks"):
        task = template.inner(one, "")
        terms = (term.strip() for term in str(task.get("depends") or "").split("&&"))
        sure = {term.removesuffix(".Succeeded") for term in terms if re.fullmatch(r"[\w-]+(\.Succeeded)?", term)}
        direct[str(task.get("name"))] = {*map(str, task.each("dependencies")), *sure}
    for _ in direct:
        for name, of in direct.items():
            direct[name] = of.union(*(direct.get(other, ()) for other in of))
    return direct


def _too_early(part: Part, _: Stack) -> Iterator[str]:
    spec = part if part.get("templates") else part.outer
    assert spec, "a template is in a workflow"  # noqa: S101
    by_name = {str(one.get("name")): one for one in (spec.inner(value, "") for value in spec.each("templates"))}
    if spec is part:
        end = by_name.get(str(spec.get("onExit")))
        if end and _publishes(end, by_name, set()):
            yield f"onExit {spec.get('onExit')} publishes, whatever became of the run"
        return
    called = {str(task.get("name")): task for task in tasks(part)}
    publishing = {name for name, task in called.items() if _calls_publisher(task, by_name, set())}
    waits = _waits(part)
    goes_on = {name for name, task in called.items() if task.get("continueOn")}
    for name in sorted(publishing):
        after = {other for other in called if name in waits[other]}
        early = (set(called) - publishing - after) - (waits[name] - goes_on)
        if early:
            yield f"{name} publishes without the success of {', '.join(sorted(early))}"


def _often(part: Part, stack: Stack) -> Iterator[str]:
    schedules = [str(one) for key in ("schedules", "schedule") for one in part.each("spec", key)]
    least = stack.parameters.schedule_minutes
    try:
        pause = cron.shortest_pause(schedules)
    except ValueError:
        yield f"its schedule {', '.join(schedules)} cannot be read"
        return
    if pause < least:
        yield f"its schedule {', '.join(schedules)} starts runs {pause:g} minutes apart; {least} are the least"


def _schedule(part: Part, _: Stack) -> Iterator[str]:
    policy = part.get("spec", "concurrencyPolicy")
    if policy not in ("Forbid", "Replace"):
        yield f"concurrencyPolicy is {policy or 'not set, which is Allow'}, so that slow runs pile up"
    if not number(part.get("spec", "startingDeadlineSeconds")):
        yield "startingDeadlineSeconds is not set, so that a run is lost while the controller restarts"
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        found: Any = part.get("spec", key)
        kept = number(found)
        if kept is None or kept > _RETRIES:
            yield f"{key} is {'not set' if found is None else found}"
    if not part.get("spec", "timezone"):
        yield "timezone is not set, so that it is the controller's"


RULES = (
    Rule(
        id="workflow-deadline",
        level=Level.MANDATORY,
        holds="Every workflow ends by a deadline, and so does each step that runs something.",
        why="A step that waits for a node or an answer for ever holds its machines for ever: Argo's "
        "docs/cost-optimisation.md, Limit The Total Number Of Workflows And Pods.",
        fix="Set activeDeadlineSeconds, of the workflow's spec and of the template.",
        types=WORKFLOWS,
        parts=_specs_and_leaves,
        check=_deadline,
    ),
    Rule(
        id="workflow-cleanup",
        level=Level.MANDATORY,
        holds="Ended workflows are deleted after a while, and their pods before them.",
        why="Each is an object in the control plane's database; when it is full nothing starts any more. Argo's "
        "docs/cost-optimisation.md, Limit The Total Number Of Workflows And Pods.",
        fix="Set ttlStrategy.secondsAfterCompletion and podGC.strategy.",
        types=WORKFLOWS,
        parts=workflows.specs,
        check=_cleanup,
    ),
    Rule(
        id="workflow-parallelism",
        level=Level.MANDATORY,
        holds="Every workflow says how many of its pods run at once.",
        why="The number of trials is a parameter of a run: without a limit one run asks for every node of every pool, "
        "and all others wait (Argo's docs/parallelism.md).",
        fix="Set parallelism in the workflow's spec.",
        types=WORKFLOWS,
        parts=workflows.specs,
        check=_parallelism,
    ),
    Rule(
        id="workflow-retry",
        level=Level.MANDATORY,
        holds="What is retried is retried a few times, with pauses, and never only because it said no.",
        why="Without a limit it is for ever (Argo's docs/retries.md). A step whose SparkApplication failed creates "
        "another one, on top of the operator's own retries. A step that could not ask the cluster is Failed as well, "
        "with the same exit code, so only its message tells the two apart (argoexec, workflow/executor/resource.go).",
        fix="Set limit and backoff, and an expression where the policy is Always; for what creates something one with "
        "!(lastRetry.message matches 'failure condition').",
        types=WORKFLOWS,
        parts=workflows.templates,
        check=_retry,
    ),
    Rule(
        id="workflow-memoise-retry",
        level=Level.MANDATORY,
        holds="No template is both memoised and retried.",
        why="A result that is found again makes a node without attempts, and Argo links what waits for it to the "
        "attempts: the workflow runs on for ever (workflow/controller/operator.go of v4.0.10, getOutboundNodes).",
        fix="Memoise a DAG of one task around the template that is retried.",
        types=WORKFLOWS,
        parts=workflows.templates,
        check=_found_again,
    ),
    Rule(
        id="workflow-command",
        level=Level.MANDATORY,
        holds="Every container of a step names its command.",
        why="Argo's controller asks the image's registry for what is not named, as itself: a private registry refuses "
        "it, and a local one is not there (Argo's docs/workflow-executors.md, Container Command).",
        fix="Set command to the image's entry point.",
        types=WORKFLOWS,
        parts=containers,
        check=_command,
    ),
    Rule(
        id="workflow-loads-apart",
        level=Level.MANDATORY,
        holds="A step that loads a stored model has an account that no other step has, and records no verdict.",
        why="A model is code: what it does is done by the step's account, and one that stores or records may add "
        "versions and verifications (docs/adr/0015-what-loads-a-model-runs-alone.md).",
        fix="Run mlops-registry fetch, score and record as three steps, score with the account of the role scorer.",
        types=WORKFLOWS,
        parts=workflows.specs,
        check=_loads_apart,
    ),
    Rule(
        id="workflow-left-over",
        level=Level.MANDATORY,
        holds="What a resource template makes goes with its workflow, and the template waits until it has ended.",
        why="Stopping a workflow does not stop a SparkApplication that it made (argo-workflows#9855); without both "
        "conditions the step ends at once, or never.",
        fix="Set setOwnerReference, successCondition and failureCondition on status.applicationState.state.",
        types=WORKFLOWS,
        parts=workflows.templates,
        check=_left_over,
    ),
    Rule(
        id="workflow-makes",
        level=Level.MANDATORY,
        holds="A resource template makes SparkApplications and nothing else, from a manifest that can be read here.",
        why="A Pod, a RoleBinding or a Workflow made at run time is under none of these rules; who may start one "
        "may do all that its service account may (Argo's docs/security.md, User Permissions).",
        fix="Make it with the program, or write a SparkApplication into resource.manifest.",
        types=WORKFLOWS,
        parts=workflows.templates,
        check=_kinds,
    ),
    Rule(
        id="workflow-parameter-in-manifest",
        level=Level.MANDATORY,
        holds="A parameter in a manifest stands alone, as {{=toJson(...)}}; none is in a podSpecPatch or a flag.",
        why="Argo puts values in as text: one with a line break in it adds lines, such as another image or account "
        "(argo-workflows#6441, workflow re-write vulnerability using input parameter).",
        fix="Write {{=toJson(inputs.parameters.x)}} as the whole value, without quotes around it.",
        types=WORKFLOWS,
        parts=_specs_and_templates,
        check=_manifest_or_patch,
    ),
    Rule(
        id="workflow-parameter-in-code",
        level=Level.MANDATORY,
        holds="No parameter or result of a step is put into shell text, a script, or the name of a program.",
        why="CWE-78, OS command injection: Argo puts values in as text, and one with a quote in it is a command, run "
        "with the rights of the step.",
        fix="Pass it as an argument of its own or by env, and read it there.",
        types=ANY,
        parts=containers,
        check=_in_code,
    ),
    Rule(
        id="workflow-schedule",
        level=Level.MANDATORY,
        holds="A schedule starts no run over another, misses none for a restart, and keeps few.",
        why="Argo's docs/cron-workflows.md, CronWorkflow Options: by default runs overlap, and what was due while the "
        "controller was away is lost.",
        fix="Set concurrencyPolicy: Forbid, startingDeadlineSeconds, timezone and both history limits.",
        types=(CRON,),
        check=_schedule,
    ),
    Rule(
        id="workflow-schedule-often",
        level=Level.MANDATORY,
        holds="A schedule starts runs no more often than the stack's policies allow.",
        why="A schedule such as * * * * * starts a run every minute (Argo's docs/cron-workflows.md), each with nodes "
        "of its own, and none is ever caught up with.",
        fix="Start it less often, or set schedule_minutes in policy/stacks/.",
        types=(CRON,),
        check=_often,
    ),
    Rule(
        id="workflow-artifact-key",
        level=Level.MANDATORY,
        holds="The key of every output artifact holds the uid of the workflow that makes it.",
        why="Two runs at a time under one key store each other's models, and a memoised result names files that a "
        "later run has replaced; names of workflows may come again, uids never (Kubernetes, Object Names and IDs).",
        fix="Begin the key with runs/{{workflow.uid}}/.",
        types=WORKFLOWS,
        parts=workflows.templates,
        check=_overwritten,
    ),
    Rule(
        id="workflow-deletes-own",
        level=Level.MANDATORY,
        holds="A step that deletes objects selects those of its own run, by its uid.",
        why="All runs are in one namespace: a wider selector ends what others have under way (Kubernetes, Labels and "
        "Selectors; kubectl delete, --selector and --all).",
        fix="Label what a run makes with {{workflow.uid}}, and select by that label alone.",
        types=WORKFLOWS,
        parts=workflows.templates,
        check=_others,
    ),
    Rule(
        id="workflow-publishes-last",
        level=Level.MANDATORY,
        holds="A step that publishes waits for the success of every step of its workflow that does not wait for it.",
        why="The Maven repository takes releases and no other in the place of one (infra/foundation/registry.py), and "
        "whoever has fetched a library keeps it: what is out before it was verified is out for good.",
        fix="Add the steps that verify to the step's dependencies.",
        types=WORKFLOWS,
        parts=_specs_and_templates,
        check=_too_early,
    ),
)
