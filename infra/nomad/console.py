"""What a server that does not come up last said: the end of its boot script's output, from its serial console.

Owns finding the machine of a server and reading its console. Boot scripts print each of their steps, and the command
that ends them; Google keeps the console's last output also of a machine that is reached by nothing else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi

from infra import naming
from infra.foundation import compute_api

_LINES = 3
_LENGTH = 200
_BYTES = 20_000
"""How much of a console's end is read: a boot script's output is a line every few seconds."""
_SCRIPT = re.compile(r"startup-script: (.*)")


@dataclass(frozen=True)
class Server:
    """A server, as Compute Engine knows it.

    Attributes:
        project: The project.
        zone: The zone.
        group: The name of its group of one machine.
    """

    project: str
    zone: str
    group: str

    def told(self) -> str:
        """What to say of it: its name, and the last lines of its boot; or why these cannot be read. It never raises."""
        try:
            return self._told()
        except Exception as error:  # noqa: BLE001  it is asked because something else failed, which must be told
            return (
                f"server {self.group} in {self.zone}: its console could not be read ({compute_api.reason(error)}); "
                f"whoever has roles/compute.viewer on project {self.project} reads it by `gcloud compute instances "
                "get-serial-port-output`"
            )

    def _told(self) -> str:
        zone = f"/zones/{self.zone}"
        group = f"{zone}/instanceGroupManagers/{self.group}/listManagedInstances"
        machines = compute_api.ask(self.project, group, method="POST").get("managedInstances", [])
        if not machines:
            return f"server {self.group}: it has no machine yet"
        machine = machines[0]
        name = urlsplit(machine["instance"]).path.rpartition("/")[2]
        state = machine.get("instanceStatus") or machine.get("currentAction") or "without a status"
        errors = machine.get("lastAttempt", {}).get("errors", {}).get("errors", [])
        if errors:
            return f"server {name} ({state}): Google could not make it: {_clean(errors[0].get('message', ''))}"
        console = compute_api.ask(
            self.project, f"{zone}/instances/{name}/serialPort", params={"port": "1", "start": str(-_BYTES)}
        ).get("contents", "")
        return f"server {name} ({state}) last said: {last_lines(console) or 'nothing'}"


def last_lines(console: str) -> str:
    """The last lines of a boot script in a console's output; where there are none, the console's last line."""
    said = _SCRIPT.findall(console) or [line for line in console.splitlines() if line.strip()][-1:]
    return " | ".join(filter(None, (_clean(line) for line in said[-_LINES:])))


def on_error(name: str, server: Server) -> pulumi.ErrorHook:
    """A hook for a server's group: where it is not made, or not healthy in time, the update says why."""

    def told(args: pulumi.ErrorHookArgs) -> bool:
        if args.failed_operation != "delete":
            pulumi.log.error(f"{server.told()}; repair what it says and run the update again: it goes on from here")
        return False

    return pulumi.ErrorHook(name, told)


def server(project: str, region: str, zones: Sequence[str], index: int) -> Server:
    """A server of a region, by its number."""
    return Server(project, zones[index % len(zones)], naming.nomad_server_group(region, index))


def _clean(line: str) -> str:
    # A console holds whatever a machine prints; a terminal must not obey it.
    return "".join(char if char.isprintable() else "?" for char in line.strip())[:_LENGTH]
