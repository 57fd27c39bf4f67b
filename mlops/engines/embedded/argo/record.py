"""A workflow as it is remembered and shown: Argo's own object, as JSON.

Owns: phases, nodes, and what becomes of a workflow that nobody runs any more. Deliberately not: running it
(`execution`).
"""

import time
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

FINISHED = frozenset({"Succeeded", "Failed", "Error", "Skipped", "Omitted"})
FAILED = frozenset({"Failed", "Error"})

Node = dict[str, Any]


def now() -> str:
    """The time as Kubernetes writes it, with microseconds."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Record:
    """One run.

    Attributes:
        body: The object as Argo's API shows it. `status.nodes[].usage` and `.requests` are ours.
    """

    def __init__(self, body: dict[str, Any], changed: Callable[["Record"], None] = lambda _: None) -> None:
        self.body = body
        self._changed = changed

    @classmethod
    def new(
        cls,
        name: str,
        uid: str,
        namespace: str,
        template: str,
        arguments: Mapping[str, Any],
        labels: Mapping[str, str],
        changed: Callable[["Record"], None] = lambda _: None,
        entrypoint: str | None = None,
    ) -> "Record":
        """A workflow that was just submitted."""
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "labels": dict(labels),
            "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        spec = {"workflowTemplateRef": {"name": template}, "arguments": dict(arguments)}
        if entrypoint is not None:
            spec["entrypoint"] = entrypoint
        status: dict[str, Any] = {"phase": "Pending", "nodes": {}, "conditions": []}
        return cls({"metadata": metadata, "spec": spec, "status": status}, changed)

    @property
    def name(self) -> str:
        """Its name, unique on the platform."""
        return self.body["metadata"]["name"]

    @property
    def uid(self) -> str:
        """Its uid, unique for ever."""
        return self.body["metadata"]["uid"]

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed or Error."""
        return self.body["status"]["phase"]

    @property
    def finished(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.phase in FINISHED

    @property
    def nodes(self) -> dict[str, Node]:
        """Its nodes by id."""
        return self.body["status"]["nodes"]

    def node_id(self, node_name: str) -> str:
        """The id of the node of that name: unique within the workflow, and fit for a file's name."""
        return self.name if node_name == self.name else f"{self.name}-{zlib.crc32(node_name.encode())}"

    def add(self, name: str, kind: str, template: str, boundary: str | None, parent: str | None = None) -> Node:
        """A new node; `kind` is Argo's type of node."""
        node: Node = {
            "id": self.node_id(name),
            "name": name,
            "displayName": name if name == self.name else name.rpartition(".")[2],
            "type": kind,
            "templateName": template,
            "phase": "Pending",
            "startedAt": now(),
            "finishedAt": None,
            "children": [],
        }
        if boundary is not None:
            node["boundaryID"] = boundary
        above = parent or boundary
        if above is not None and above in self.nodes:
            self.nodes[above]["children"].append(node["id"])
        self.nodes[node["id"]] = node
        self.changed()
        return node

    def turn(self, node: Node, phase: str, message: str = "") -> None:
        """Give a node a phase."""
        if node["phase"] in FINISHED:
            return
        if phase == "Running" and node["phase"] == "Pending":
            node["startedAt"] = now()
        node["phase"] = phase
        if message:
            node["message"] = " ".join(message.split())[:2000]
        if phase in FINISHED:
            node["finishedAt"] = now()
        self.changed()

    def begin(self) -> None:
        """It runs."""
        self.body["status"].update(phase="Running", startedAt=now())
        self.changed()

    def end(self, phase: str, message: str = "") -> None:
        """It has ended."""
        self.body["status"].update(phase=phase, finishedAt=now(), message=message)
        self.changed()

    def note(self, kind: str, message: str) -> None:
        """Say something about the whole, as a condition."""
        self.body["status"]["conditions"].append({"type": kind, "status": "True", "message": message})
        self.changed()

    def lost(self) -> None:
        """The engine ended while it ran."""
        message = "lost: the engine ended while it ran; submit it again (memoised steps are not repeated)"
        for node in self.nodes.values():
            self.turn(node, "Error", "lost: the engine ended while this ran")
        self.note("Lost", message)
        self.end("Error", message)

    def changed(self) -> None:
        """Count progress, and tell who keeps it."""
        leaves = [node for node in self.nodes.values() if node["type"] == "Pod"]
        done = sum(node["phase"] in FINISHED for node in leaves)
        self.body["status"]["progress"] = f"{done}/{len(leaves)}"
        self.body["status"]["modified"] = time.time_ns()
        self._changed(self)
