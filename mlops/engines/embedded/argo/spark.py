"""A SparkApplication as one `spark-submit --master local[*]`.

Owns: the command line that a manifest means, how much it asks for, and which lines of a driver's output are for people.
Deliberately not: the process, and what is refused in a manifest (`fields`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from definitions.quantities import jvm_mebibytes, quantity
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


def command(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """The command that runs it, in the image's folder.

    Raises:
      EmbeddedError: The manifest names no program, or one that is not in the image.
    """
    spec = manifest["spec"]
    memory = max((spec.get(pod, {}).get("memory", "1g") for pod in ("driver", "executor")), key=mebibytes)
    metadata = manifest.get("metadata", {})
    argv = ["spark-submit", "--master", "local[*]", "--driver-memory", memory]
    argv += ["--name", metadata.get("name") or metadata.get("generateName", "spark").rstrip("-")]
    for name, value in (spec.get("sparkConf") or {}).items():
        argv += ["--conf", f"{name}={value}"]
    for name, value in (spec.get("hadoopConf") or {}).items():
        argv += ["--conf", f"spark.hadoop.{name}={value}"]
    if "mainClass" in spec:
        argv += ["--class", spec["mainClass"]]
    program = spec.get("mainApplicationFile", "")
    if not program.startswith(f"local://{_WORKDIR}/"):
        raise EmbeddedError(f"mainApplicationFile {program!r} is not local://{_WORKDIR}/..., a file of the image")
    path = folder / program.removeprefix(f"local://{_WORKDIR}/")
    if not path.is_file():
        raise EmbeddedError(
            f"mainApplicationFile {program}: there is no {path.relative_to(folder)} in images/{folder.name}"
        )
    return [*argv, str(path), *map(str, spec.get("arguments") or ())]


def environment(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The driver's own environment."""
    return {one["name"]: str(one.get("value", "")) for one in manifest["spec"].get("driver", {}).get("env", ())}


def amount(manifest: Mapping[str, Any]) -> Resources:
    """What it asks of the machine: local[*] is one process, so the larger of driver and executor.

    Raises:
      EmbeddedError: A coreRequest is no number of cores.
    """
    pods = [manifest["spec"].get(pod, {}) for pod in ("driver", "executor")]
    cores = max(_cores(str(pod.get("coreRequest", pod.get("cores", 1)))) for pod in pods)
    memory = max(mebibytes(pod.get("memory", "1g")) for pod in pods)
    return Resources(cores, int(memory * _PYTHON_OVERHEAD))


def restarts(manifest: Mapping[str, Any]) -> Restarts:
    """Its restart policy.

    Raises:
      EmbeddedError: It would never end.
    """
    policy = manifest["spec"].get("restartPolicy") or {}
    match policy.get("type", "Never"):
        case "Never":
            return Restarts(0, 0)
        case "OnFailure":
            return Restarts(int(policy.get("onFailureRetries", 0)), float(policy.get("onFailureRetryInterval", 5)))
        case other:
            raise EmbeddedError(
                f"restartPolicy {other} is not executed by the embedded engine; Never and OnFailure are"
            )


def _cores(text: str) -> int:
    cores = quantity(text)
    if cores is None:
        raise EmbeddedError(f"coreRequest {text!r}: write it like 500m or 2")
    return int(cores * MHZ_A_CORE)


def mebibytes(text: str) -> float:
    """Memory as Spark writes it.

    Raises:
      EmbeddedError: It is not memory.
    """
    amount = jvm_mebibytes(text)
    # Without a unit spark-submit takes it as bytes, and the operator as MiB.
    if amount is None or text[-1].isdigit():
        raise EmbeddedError(f"memory {text!r} is not like 512m or 2g")
    return float(amount)


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
