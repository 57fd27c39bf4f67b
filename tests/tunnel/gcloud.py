"""What stands in for `gcloud` in a test: finds and tunnels to local TCP servers, as a file lists them.

Like the real one it ends both directions when its input ends (`RunReceiveLocalData` in gcloud's iap_tunnel.py), and
fails when the machine does not take the connection.
"""

import json
import os
import re
import select
import socket
import sys
from pathlib import Path

HOME = Path(sys.argv[0]).resolve().parent
CHUNK = 65536


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--quiet"]
    given = [a.removeprefix("--").partition("=") for a in arguments if a.startswith("--")]
    options = {name: value for name, _, value in given}
    words = [a for a in arguments if not a.startswith("--")]
    assert options["project"] == "example-project", options
    with (HOME / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if words == ["compute", "instances", "list"]:
        labels = dict(re.findall(r"labels\.([a-z-]+)=([a-z0-9-]+)", options["filter"]))
        assert labels.pop("nomad-role") == "server"
        assert "status=RUNNING" in options["filter"]
        servers = json.loads((HOME / "servers.json").read_text())
        found = [server for server in servers if server["region"] == labels["nomad-region"]]
        zone = "https://www.googleapis.com/compute/v1/projects/example-project/zones/europe-west1-b"
        print(json.dumps([{"name": server["name"], "zone": zone} for server in found]))
        return 0
    if words[:3] == ["secrets", "versions", "access"]:
        print((HOME / "ca.pem").read_text(), end="")
        return 0
    assert words[:2] == ["compute", "start-iap-tunnel"], words
    assert words[3] == "4646"
    assert options["zone"] == "europe-west1-b"
    assert "listen-on-stdin" in options
    servers = {server["name"]: server["port"] for server in json.loads((HOME / "servers.json").read_text())}
    try:
        connection = socket.create_connection(("127.0.0.1", servers[words[2]]))
    except ConnectionRefusedError:
        print("WARNING: something else\nERROR: Error while connecting [4003: 'failed to connect'].", file=sys.stderr)
        return 1
    while True:
        readable, _, _ = select.select([0, connection], [], [])
        if connection in readable:
            try:
                data = connection.recv(CHUNK)
            except ConnectionResetError:
                print("ERROR: the machine has gone.", file=sys.stderr)
                return 1
            if not data:
                return 0
            while data:
                data = data[os.write(1, data) :]
        if 0 in readable:
            data = os.read(0, CHUNK)
            if not data:
                return 0
            connection.sendall(data)


if __name__ == "__main__":
    sys.exit(main())
