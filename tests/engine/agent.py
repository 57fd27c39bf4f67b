"""A Nomad of a test's own: a real `nomad agent -dev` on free loopback ports, and what tests ask of any Nomad's API.

Deliberately knows no job: see `test_nomad.py`.
"""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

_PATIENCE = 240
_POLL = 0.2


@dataclass(frozen=True)
class Api:
    """The HTTP API of a Nomad, the real one or the embedded engine's."""

    address: str

    def __call__(self, method: str, path: str, **content: Any) -> Any:
        """Ask it."""
        answer = requests.request(method, f"{self.address}/v1/{path}", timeout=30, **content)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text.strip()}"
        return answer.json()

    def dispatch(self, job: str, meta: Mapping[str, str]) -> str:
        """Start a run and give its id."""
        return self("POST", f"job/{job}/dispatch", json={"Meta": dict(meta)})["DispatchedJobID"]

    def allocation(self, run: str, task: str = "", state: str = "dead") -> dict[str, Any]:
        """The run's one allocation, when every task, or the one named, has come to a state."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            found = self("GET", f"job/{quote(run, safe='')}/allocations")
            assert len(found) < 2, f"{run} has {len(found)} allocations"
            states = (found[0]["TaskStates"] or {}) if found else {}
            wanted = [states[task]] if task in states else [] if task else list(states.values())
            if wanted and all(one["State"] == state for one in wanted):
                return self("GET", f"allocation/{found[0]['ID']}")
            time.sleep(_POLL)
        raise AssertionError(f"{run}: {task or 'its tasks'} did not become {state}")

    def stop(self, run: str) -> None:
        """Stop a run."""
        self("DELETE", f"job/{quote(run, safe='')}")

    def log(self, allocation: str, task: str) -> str:
        """What a task said on stderr."""
        return requests.get(
            f"{self.address}/v1/client/fs/logs/{allocation}",
            params={"task": task, "type": "stderr", "plain": "true"},
            timeout=30,
        ).text


@contextmanager
def agent(folder: Path, environment: Mapping[str, str]) -> Iterator[Api]:
    """Start a real one with the host volume `models`, in `folder`; tasks inherit nothing but `environment`."""
    volume = folder / "models"
    volume.mkdir(parents=True)
    http, rpc, serf = free_ports(3)
    config = folder / "agent.json"
    config.write_text(
        json.dumps(
            {
                "bind_addr": "127.0.0.1",
                "ports": {"http": http, "rpc": rpc, "serf": serf},
                "disable_update_check": True,
                "client": {
                    "host_volume": [{"models": [{"path": str(volume)}]}],
                    # No cloud is asked whether this is a machine of its own.
                    "options": {"fingerprint.denylist": "env_aws,env_azure,env_digitalocean,env_gce"},
                },
            }
        )
    )
    log = folder / "agent.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nomad", "agent", "-dev", "-config", str(config)],
            env={**environment, "HOME": str(folder), "TMPDIR": str(folder)},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
        try:
            api = Api(f"http://127.0.0.1:{http}")
            _until_ready(api, process, log)
            yield api
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _until_ready(api: Api, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            nodes = requests.get(f"{api.address}/v1/nodes", timeout=5)
            if nodes.ok and any(node["Status"] == "ready" for node in nodes.json()):
                return
        except requests.ConnectionError:
            pass
        time.sleep(_POLL)
    raise AssertionError(f"the agent did not become ready:\n{log.read_text()[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
