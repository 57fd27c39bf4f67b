"""Takes the logs of Spark's drivers before they are deleted, and says of each application why it did not complete.

Owns: what is asked of the cluster's API, and which line of a driver's log is the cause. Deliberately not: Spark, which
it does without, and deleting anything.
"""

import argparse
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 30
_LINES = 5000
_LOG_LINE = re.compile(
    r"\d\d(/\d\d/\d\d \d\d)?:\d\d(:\d\d)? |(TRACE|DEBUG|INFO|WARN|ERROR)\b|\s*at |\t|Caused by: |\+ |\s*$"
)
"""Lines of Spark's logger, of stack traces and of the image's entry point; what a program says for people is none."""

Get = Callable[[str], bytes]


def main(argv: list[str] | None = None) -> int:
    """Print every driver's log, write every cause; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--selector", required=True, help="labels that the applications of the run have")
    parser.add_argument("--step-label", required=True, help="label of an application that names its step")
    parser.add_argument("--output", required=True, type=Path, help='gets {step: {"message", "exit_code"}}')
    options = parser.parse_args(argv)
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    causes: dict[str, Any] = {}
    if not host:
        print("spark-features: this is no pod of a cluster, so there are no drivers", file=sys.stderr)
    else:
        try:
            causes = collect(_api(host), options.namespace, options.selector, options.step_label)
        except (OSError, ValueError) as error:
            print(f"spark-features: the drivers' logs could not be read: {error}", file=sys.stderr)
            return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(causes))
    for step, cause in causes.items():
        print(f"{step}: {cause['message']}", file=sys.stderr)
    return 0


def collect(get: Get, namespace: str, selector: str, step_label: str) -> dict[str, Any]:
    """Print the logs of the drivers of all applications; give the causes of those that did not complete, by step."""
    causes: dict[str, Any] = {}
    applications = _list(get, f"/apis/sparkoperator.k8s.io/v1beta2/namespaces/{namespace}/sparkapplications", selector)
    pods = _list(get, f"/api/v1/namespaces/{namespace}/pods", f"{selector},spark-role=driver")
    for application in applications:
        metadata, spec = application["metadata"], application.get("spec") or {}
        state = (application.get("status") or {}).get("applicationState") or {}
        own = [pod for pod in pods if _label(pod, "sparkoperator.k8s.io/app-name") == metadata["name"]]
        program = Path(spec.get("mainApplicationFile", "")).stem
        code, said = None, ""
        for pod in own:
            log = _log(get, namespace, pod)
            print(
                f"--- {pod['metadata']['name']} ({(pod.get('status') or {}).get('phase', 'Unknown')})\n{log}",
                flush=True,
            )
            code, said = _end(pod, _last(log, program))
        if state.get("state") == "COMPLETED":
            continue
        reason = said or state.get("errorMessage") or ""
        if state.get("state") and reason:
            message = " ".join(reason.split())[:1000]
            causes[_label(application, step_label) or metadata["name"]] = {"message": message, "exit_code": code}
    return causes


def _end(pod: Any, said: str) -> tuple[int | None, str]:
    """How a driver's container ended: its exit code, and why; nothing of one that still runs."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return None, f"the driver does not start: {waiting.get('reason', '')} {waiting.get('message', '')}"
        if ended and ended.get("exitCode"):
            # `Error` says no more than the exit code.
            why = "" if ended.get("reason") in (None, "Error") else f" ({ended['reason']})"
            return ended["exitCode"], f"exit code {ended['exitCode']}{why}" + (f": {said}" if said else "")
    status = pod.get("status") or {}
    return None, status.get("message", "") if status.get("phase") == "Failed" else ""


def _last(log: str, program: str) -> str:
    """The line of a log that is for people: the program's own last one, or else the last that is no logger's."""
    lines = log.splitlines()
    own = [line for line in lines if program and line.startswith(f"{program}: ")]
    others = [line for line in lines if not _LOG_LINE.match(line)]
    return (own or others or [""])[-1].strip()


def _log(get: Get, namespace: str, pod: Any) -> str:
    name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]["name"]
    query = urlencode({"container": container, "tailLines": _LINES})
    try:
        return get(f"/api/v1/namespaces/{namespace}/pods/{quote(name)}/log?{query}").decode(errors="replace")
    except urllib.error.HTTPError as error:  # of a container that never started there is none
        return f"(no log: the cluster answers {error.code})\n"


def _list(get: Get, path: str, selector: str) -> list[Any]:
    found = json.loads(get(f"{path}?{urlencode({'labelSelector': selector})}"))["items"]
    return sorted(found, key=lambda one: one["metadata"].get("creationTimestamp") or "")


def _label(one: Any, name: str) -> str:
    return (one["metadata"].get("labels") or {}).get(name, "")


def _api(host: str) -> Get:
    """The cluster's API, as the account of this pod."""
    token = (ACCOUNT / "token").read_text().strip()
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted))
    address = f"https://{f'[{host}]' if ':' in host else host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"

    def get(path: str) -> bytes:
        request = urllib.request.Request(address + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with opener.open(request, timeout=_SECONDS) as answer:
            return answer.read()

    return get


if __name__ == "__main__":
    sys.exit(main())
