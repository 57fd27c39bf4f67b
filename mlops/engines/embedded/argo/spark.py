"""A SparkApplication as one `spark-submit --master local[*]`.

Owns: the command line that a manifest means, how much it asks for, and which lines of a driver's output are for people.
Deliberately not: the process, and what is refused in a manifest (`support`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from definitions.quantities import jvm_mebibytes, quantity
from definitions.spark import SparkApplication, SparkPod
from definitions.typed import has_tag
from mlops.engines.embedded.argo.retries import whole
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.scheduler import MHZ_A_CORE, Resources

_WORKDIR = "/app"
_PYTHON_OVERHEAD = 1.4
"""What the Spark Operator adds to the memory of a Python application's pods, by Spark's own default."""
_LOG_LINE = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (TRACE|DEBUG|INFO|WARN)\b|(Using|Setting|To adjust) .*(Spark|log)|WARNING: "
)


@dataclass(frozen=True)
class Restarts:
    """What of a failed driver is tried again: how often, and after how many seconds times the attempt."""

    retries: int
    interval: float


def problems(application: SparkApplication) -> Iterator[str]:
    """What it asks for that is not executed here, as far as that shows before a run."""
    program, restart = application.spec.main_application_file, application.spec.restart_policy.type
    if not program.startswith(f"local://{_WORKDIR}/") and not has_tag(program):
        yield f"mainApplicationFile {program!r} is not local://{_WORKDIR}/..., a file of the image"
    if restart not in ("Never", "OnFailure"):
        yield f"restartPolicy {restart} is not executed by the embedded engine; Never and OnFailure are"


def command(application: SparkApplication, folder: Path) -> list[str]:
    """The command that runs it, in the image's folder.

    Raises:
      EmbeddedError: The manifest names a program that is not in the image.
    """
    spec, metadata = application.spec, application.metadata
    memory = max((pod.memory for pod in _pods(application)), key=lambda text: jvm_mebibytes(text) or 0)
    argv = ["spark-submit", "--master", "local[*]", "--driver-memory", memory]
    argv += ["--name", metadata.name or (metadata.generate_name or "spark").rstrip("-")]
    for name, value in spec.spark_conf.items():
        argv += ["--conf", f"{name}={value}"]
    for name, value in spec.hadoop_conf.items():
        argv += ["--conf", f"spark.hadoop.{name}={value}"]
    if spec.main_class:
        argv += ["--class", spec.main_class]
    path = folder / spec.main_application_file.removeprefix(f"local://{_WORKDIR}/")
    if not path.is_file():
        raise EmbeddedError(
            f"mainApplicationFile {spec.main_application_file}: there is no {path.relative_to(folder)} in "
            f"images/{folder.name}"
        )
    return [*argv, str(path), *spec.arguments]


def environment(application: SparkApplication) -> dict[str, str]:
    """The driver's own environment."""
    return {variable.name: variable.value for variable in application.spec.driver.env}


def amount(application: SparkApplication) -> Resources:
    """What it asks of the machine: local[*] is one process, so the larger of driver and executor."""
    pods = _pods(application)
    cores = max(quantity(pod.core_request or pod.cores) or 0 for pod in pods)
    memory = max(jvm_mebibytes(pod.memory) or 0 for pod in pods)
    return Resources(int(cores * MHZ_A_CORE), int(float(memory) * _PYTHON_OVERHEAD))


def restarts(application: SparkApplication) -> Restarts:
    """Its restart policy."""
    policy = application.spec.restart_policy
    if policy.type == "Never":
        return Restarts(0, 0)
    retries = whole(policy.on_failure_retries, "onFailureRetries")
    return Restarts(retries, whole(policy.on_failure_retry_interval, "onFailureRetryInterval"))


def _pods(application: SparkApplication) -> tuple[SparkPod, SparkPod]:
    return application.spec.driver, application.spec.executor


def last_lines(path: Path, count: int = 4, *, since: int = 0) -> str:
    """The end of a driver's output without Spark's own log lines, as one line; nothing before the byte `since`."""
    try:
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _LOG_LINE.match(line.strip())]
    return " | ".join(lines[-count:])[-1000:]
