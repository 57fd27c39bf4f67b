"""Rules on SparkApplications, registered or made by a template: that they end, stay small, and run what was built.

What holds for any pod, the driver's and executors' among them, is in `containers.py`.
"""

import re
from collections.abc import Iterator

from definitions.argo.views import given
from infra import credentials
from inventory.values import number
from policy.parts.workflows import SPARK, WORKFLOWS, applications
from policy.rule import Check, Level, Part, Rule, Stack

_WEEK = 7 * 86400
_RETRIES = 10
_EXECUTORS = 100
# What of `sparkConf` would undo the rest of the object, or fetch code that is not in the image.
_UNDOES = re.compile(
    r"spark\.(master|app\.name"
    r"|kubernetes\.(authenticate\.|container\.image|(driver|executor)\.(container\.image|podTemplate|volumes\.|secrets\.|"
    r"label\.|annotation\.|request\.|limit\.|node\.selector)|node\.selector|namespace)"
    r"|dynamicAllocation\.|executor\.instances|(driver|executor)\.(memory|cores)"
    r"|jars\b|submit\.pyFiles|files$|archives$|(driver|executor)\.(extraClassPath|extraJavaOptions))",
)


def _ttl(application: Part, _: Stack) -> Iterator[str]:
    seconds = application.get("spec", "timeToLiveSeconds")
    if not number(seconds) or float(seconds) > _WEEK:
        yield f"timeToLiveSeconds is {'not set' if seconds is None else f'{seconds}, which is over a week'}"


def _restart(application: Part, _: Stack) -> Iterator[str]:
    policy = application.get("spec", "restartPolicy", "type")
    # Never, and no retry, is what a field that is not set means (the operator's v2.5.2, api/v1beta2/defaults.go).
    if policy not in (None, "Never", "OnFailure"):
        yield f"restartPolicy.type is {policy}"
    for key in ("onFailureRetries", "onSubmissionFailureRetries"):
        found = application.get("spec", "restartPolicy", key)
        retries = number(found)
        if found is not None and (retries is None or retries > _RETRIES):
            yield f"restartPolicy.{key} is {found}, which is no number up to {_RETRIES}"


def _executors(application: Part, _: Stack) -> Iterator[str]:
    if application.get("spec", "dynamicAllocation", "enabled"):
        what, found = "dynamicAllocation.maxExecutors", application.get("spec", "dynamicAllocation", "maxExecutors")
    else:
        what, found = "executor.instances", application.get("spec", "executor", "instances")
    most = number(found)
    if most is None or most > _EXECUTORS:
        yield f"{what} is {'not set' if found is None else found}, which is no number up to {_EXECUTORS}"


def _built(application: Part, _: Stack) -> Iterator[str]:
    main = str(application.get("spec", "mainApplicationFile"))
    if not main.startswith("local://") or given(main):
        yield f"mainApplicationFile {main} is not in the image"
    for kind, found in (application.get("spec", "deps") or {}).items():
        for one in application.inner(found, "").each() if isinstance(found, list | str) else []:
            if not str(one).startswith("local://"):
                yield f"deps.{kind} has {one}, which is not in the image"


def _conf(application: Part, _: Stack) -> Iterator[str]:
    for kind in ("sparkConf", "hadoopConf"):
        for key in application.get("spec", kind) or {}:
            if kind == "sparkConf" and _UNDOES.match(key):
                yield f"sparkConf.{key} has a field of its own, or undoes one"
            if credentials.is_literal(key, str(application.get("spec", kind, key))):
                yield f"{kind}.{key} holds a credential"


def _mode(application: Part, _: Stack) -> Iterator[str]:
    mode = application.get("spec", "mode")
    if mode != "cluster":
        yield f"mode is {mode}"


def _rule(id_: str, holds: str, why: str, fix: str, check: Check) -> Rule:
    return Rule(id_, Level.MANDATORY, holds, why, fix, check, (*WORKFLOWS, SPARK), applications)


RULES = (
    _rule(
        "spark-ttl",
        "Every SparkApplication is deleted within a week of its end.",
        "Spark Operator, Setting TTL for a SparkApplication: one that nobody deletes keeps its driver pod, service and "
        "ConfigMaps for ever, and counts against the namespace's quota.",
        "Set timeToLiveSeconds.",
        _ttl,
    ),
    _rule(
        "spark-restart",
        "A SparkApplication is repeated a few times at the most.",
        "Spark Operator, Configuring Automatic Application Restart and Failure Handling: with Always what has ended "
        "well begins again, and the step that waits for it never ends.",
        "Set restartPolicy to Never, or to OnFailure with a few onFailureRetries and onSubmissionFailureRetries.",
        _restart,
    ),
    _rule(
        "spark-executors",
        "A SparkApplication has a largest number of executors.",
        "Spark, Dynamic Allocation: spark.dynamicAllocation.maxExecutors is infinity unless it is set, so that one "
        "application takes a whole pool.",
        "Set dynamicAllocation.maxExecutors, or executor.instances without dynamic allocation.",
        _executors,
    ),
    _rule(
        "spark-code",
        "The program of a SparkApplication, and all that it depends on, is in its image.",
        "What is fetched when it starts is under no hash: the version that it made cannot be made again, and who may "
        "write there runs code as the driver. SLSA, Build provenance.",
        "Copy it into images/spark-features/, and name it as local:///...",
        _built,
    ),
    _rule(
        "spark-conf",
        "sparkConf changes nothing that has a field of its own, and holds no credential.",
        "Spark, Running on Kubernetes, Configuration: by its properties a pod gets volumes of the node, another image "
        "or service account, past the rules on pods and, but for a few, past the operator's webhook.",
        "Use the field of the SparkApplication instead.",
        _conf,
    ),
    _rule(
        "spark-mode",
        "The driver of a SparkApplication has a pod of its own.",
        "In mode client the operator starts the program in its own pod (spark-operator#1406), which may make pods as "
        "any service account of the namespace; Spark Operator, Working with SparkApplications: cluster mode only.",
        "Set mode: cluster.",
        _mode,
    ),
)
