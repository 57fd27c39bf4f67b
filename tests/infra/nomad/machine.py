"""The files that a boot script puts on a machine, in a folder of a test's own, and a machine that they run on.

The machine is a folder: the scripts' absolute paths lead into it, the programs that would change a real one do nothing,
and Google and Nomad answer on loopback. bash, curl and jq are the real ones.
"""

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_FILE = re.compile(r"^cat >/usr/local/lib/mlops/(\S+) <<'END_OF_FILE'\n(.*?)^END_OF_FILE$", re.MULTILINE | re.DOTALL)


def unpack(script: str, folder: Path) -> Path:
    """Write the script as startup.sh, and beside it every file that it writes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "startup.sh").write_text(script)
    for name, text in _FILE.findall(script):
        (folder / name).write_text(text)
    return folder


def bash(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run lines of bash there, as the machine's own programs are run: the first failure ends them."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{text}"], cwd=folder, capture_output=True, text=True, timeout=300
    )


KEY = "projects/example/locations/europe-west1/keyRings/mlops-0a1b2c/cryptoKeys/nomad"
_BUNDLE = json.dumps({"ca": "CA", "certificate": "CERTIFICATE", "key": "KEY"})
# What they would print where a script looks; the others print nothing.
_PRINTED = {
    "docker": "[name=apparmor name=seccomp,profile=default]",
    "nomad": "Nomad v{version}",
    "journalctl": "Error starting agent: permission denied",
}
_IDLE = ("apt-get", "blkid", "dpkg", "id", "mkfs.ext4", "mount", "mountpoint", "sleep", "systemctl", "unzip", "useradd")
_IDLE += ("sha256sum",)


class Google:
    """Google's metadata server and APIs, and Nomad's, on loopback.

    Attributes:
        address: Where they are.
        asked: The paths that were asked for, in their order.
        objects: What is in the data bucket.
        refusals: How often each path, by a part of it, is still refused with 403.
    """

    address: str
    asked: list[str]
    objects: list[str]
    refusals: dict[str, int]

    def __init__(self) -> None:
        self.asked, self.objects, self.refusals = [], ["platform/program.zip"], {}

    def answer(self, path: str) -> tuple[int, str]:
        """Status and body. The metadata server ends no body with a newline."""
        self.asked.append(path)
        for part in self.refusals:
            if part in path and self.refusals[part] > 0:
                self.refusals[part] -= 1
                return 403, "{}"
        if path.endswith("/token"):
            return 200, '{"access_token": "T"}'
        if path.endswith("/nomad-key"):
            return 200, KEY
        if "/secrets/" in path:
            of = path.split("/secrets/")[1]
            secret = _BUNDLE if of.startswith(("mlops-nomad-eu-server", "mlops-nomad-eu-client")) else "SECRET"
            return 200, json.dumps({"payload": {"data": base64.b64encode(secret.encode()).decode()}})
        if "/storage/v1/b/" in path and "?prefix=" in path:
            return 200, json.dumps({"items": [{"name": name} for name in self.objects]} if self.objects else {})
        return 200, "{}"


@contextmanager
def google() -> Iterator[Google]:
    """Let them answer."""
    stand_in = Google()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = stand_in.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()


def boot(script: str, folder: Path, of: Google) -> subprocess.CompletedProcess[str]:
    """Start a machine with a boot script; its root is `folder`."""
    programs = folder / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    version = re.findall(r"NOMAD_VERSION=(\S+)", script)[0]
    printed = dict.fromkeys(_IDLE, "") | {name: text.format(version=version) for name, text in _PRINTED.items()}
    for name, text in printed.items():
        if not (programs / name).exists():
            _program(programs / name, f"printf '%s\\n' '{text}'" if text else "exit 0")
    # Whoever runs the tests cannot give a file to another.
    kept = 'printf "%s\\n" "$@" | grep --invert-match -e ^--owner -e ^--group'
    _program(programs / "install", f"exec /usr/bin/install $({kept})")
    environment = 'mkdir -p "$3/bin"; for name in pip python; do ln -sf /bin/true "$3/bin/$name"; done'
    _program(programs / "python3", environment)
    apis = re.findall(r"https://\w+\.googleapis\.com", script)
    for origin in ("http://169.254.169.254", "https://127.0.0.1:4646", *apis):
        script = script.replace(origin, of.address)
    script = re.sub(r"(?<![\w.])/(?=(usr/local|etc|var/lib|opt|run)\b)", f"{folder}/", script)
    for there in ("run", "etc/systemd/system", "usr/local/bin"):
        (folder / there).mkdir(parents=True, exist_ok=True)
    (folder / "usr/local/bin/nomad").unlink(missing_ok=True)
    (folder / "usr/local/bin/nomad").symlink_to(programs / "nomad")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
