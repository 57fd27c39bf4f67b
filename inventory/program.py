"""The process in which the recorder runs a Pulumi program: Pulumi's mocks, and a monitor that writes down requests.

Argument: the checkout; on standard input what `recorder.record` sends, on standard output the answer. Imports nothing
of this project, so that the program's own modules are those of its checkout.
"""

import functools
import gc
import hashlib
import json
import logging
import os
import runpy
import sys
import traceback
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
from google.protobuf import empty_pb2, json_format
from pulumi import _types
from pulumi.runtime import mocks, rpc, set_all_config, stack
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.sync_await import _sync_await

_UNKNOWN = "[unknown]"
_SECRET = "[secret]"  # noqa: S105  a marker
_STACK = "pulumi:pulumi:Stack"

# Outputs that their providers mark secret; under mocks nothing else does.
_SECRET_OUTPUTS = {
    "random:index/randomBytes:RandomBytes": ("base64", "hex"),
    "random:index/randomPassword:RandomPassword": ("result", "bcryptHash"),
}

# Calls that the program makes after what they ask about is there, and what they are answered. In a preview of a stack
# that is not there yet Pulumi itself leaves them unanswered.
_ANSWERS = {
    "nomad:index/getJwks:getJwks": {
        "id": "jwks",
        "keys": [
            {
                "keyType": "RSA",
                "algorithm": "RS256",
                "keyUse": "sig",
                "keyId": "example",
                "exponent": "AQAB",
                "modulus": "AQAB",
                "curve": "",
                "x": "",
            }
        ],
        "pemKeys": [],
    },
    "gcp:storage/getProjectServiceAccount:getProjectServiceAccount": {
        "emailAddress": "cloud-storage@example.invalid",
        "member": "serviceAccount:cloud-storage@example.invalid",
    },
}


class _Mocks(mocks.Mocks):
    def __init__(self, *, preview: bool) -> None:
        self._preview = preview

    def call(self, args: mocks.MockCallArgs) -> Any:
        if args.token in _ANSWERS:
            return _ANSWERS[args.token]
        raise pulumi.RunError(
            f"the program calls {args.token}, which only a cloud could answer, so the stack cannot be planned without "
            "one; make it a setting"
        )

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if self._preview or not args.custom:
            return "", dict(args.inputs)
        made_up = {
            name: _value(kind, f"{args.name}-{name}")
            for name, kind in _output_types(args.typ).items()
            if name not in args.inputs
        }
        return f"{args.name}-id", made_up | args.inputs


class _Monitor(mocks.MockMonitor):
    """Pulumi's mock monitor, which passes on names, types and inputs only, made to keep the whole request."""

    def __init__(self, answers: _Mocks, *, preview: bool) -> None:
        super().__init__(answers)
        self._answers = answers
        self._preview = preview
        self.recorded: dict[str, dict[str, Any]] = {}
        self.stack_outputs: dict[str, Any] = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        # The mock's own keeps the parent's last type only, and the stack's among them; the engine does neither.
        if parent:
            above = parent.split("::")[2]
            type_ = type_ if above == _STACK else f"{above}${type_}"
        return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{type_}::{name}"

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  gRPC's name
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == _STACK:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        if urn in self.recorded:
            raise pulumi.RunError(
                f"{urn} is registered twice, so an update would refuse it; name one of them otherwise"
            )

        inputs = json_format.MessageToDict(request.object)
        args = mocks.MockResourceArgs(
            request.type, request.name, inputs, request.provider, request.importId, request.custom
        )
        physical_id, state = self._answers.new_resource(args)
        secret = {*request.additionalSecretOutputs, *_SECRET_OUTPUTS.get(request.type, ())}
        state, sent = (
            {name: _secret(value) if name in secret else value for name, value in values.items()}
            for values in (state, inputs)
        )

        outputs = _plain(state)
        if self._preview and request.custom:
            computed = set(_output_types(request.type)) - set(outputs)
            outputs |= {name: _SECRET if name in secret else _UNKNOWN for name in sorted(computed)}
        self.recorded[urn] = {
            "type": request.type,
            "name": request.name,
            "urn": urn,
            "custom": request.custom,
            "inputs": _plain(sent),
            "outputs": outputs,
            "parent": None if _is_stack(request.parent) else request.parent,
            "provider": "::".join(request.provider.split("::")[:-1]) or None,
            "dependencies": sorted(urn for urn in request.dependencies if not _is_stack(urn)),
            "property_dependencies": {
                name: sorted(found.urns) for name, found in sorted(request.propertyDependencies.items()) if found.urns
            },
            "protect": request.protect,
            "retain_on_delete": request.retainOnDelete,
            "delete_before_replace": request.deleteBeforeReplace,
            "deleted_with": request.deletedWith or None,
            "import_id": request.importId or None,
            "aliases": [*request.aliasURNs, *(a.urn or json_format.MessageToJson(a.spec) for a in request.aliases)],
            "ignore_changes": list(request.ignoreChanges),
            "replace_on_changes": list(request.replaceOnChanges),
            "additional_secret_outputs": list(request.additionalSecretOutputs),
            "hooks": json_format.MessageToDict(request.hooks),
            "version": request.version or None,
        }
        self.resources[urn] = mocks.MockMonitor.ResourceRegistration(urn, physical_id, state)
        return resource_pb2.RegisterResourceResponse(
            urn=urn, id=physical_id, object=json_format.ParseDict(state, type(request.object)())
        )

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802  gRPC's name
        outputs = _plain(json_format.MessageToDict(request.outputs))
        if _is_stack(request.urn):
            self.stack_outputs = outputs
        else:
            self.recorded[request.urn]["outputs"] = outputs
        return empty_pb2.Empty()


def _is_stack(urn: str) -> bool:
    return not urn or urn.split("::")[2] == _STACK


def _secret(value: Any) -> dict[str, Any]:
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


def _plain(value: Any) -> Any:
    """A value as it came over the wire, as JSON: what is unknown or secret is marked, whole numbers are integers."""
    if isinstance(value, dict):
        signature = value.get(rpc._special_sig_key)
        if signature == rpc._special_secret_sig:
            return _SECRET
        if signature == rpc._special_resource_sig:
            return value.get("urn")
        if signature is not None:
            plain = {key: _plain(inner) for key, inner in value.items() if key != rpc._special_sig_key}
            return _asset(plain) if isinstance(plain.get("path"), str) else plain
        # A protobuf map has no order.
        return {key: _plain(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if value == rpc.UNKNOWN:
        return _UNKNOWN
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _asset(asset: dict[str, Any]) -> dict[str, Any]:
    """A file or an archive by what it holds: its path is another one in every checkout."""
    path = Path(asset["path"])
    if path.is_file():
        asset["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        asset["path"] = str(path.relative_to(Path.cwd()))
    return asset


@functools.cache
def _output_types(token: str) -> dict[str, Any]:
    """The outputs of a resource type and their types, as the provider's package declares them."""
    if token.startswith("pulumi:providers:"):
        # A provider's inputs are its outputs: it computes nothing.
        return {}
    for resource in _subclasses(pulumi.CustomResource):
        if getattr(resource, "pulumi_type", None) == token:
            return {name: kind for name, kind in _types.resource_types(resource).items() if name not in ("id", "urn")}
    return {}


def _subclasses(of: type) -> Iterator[type]:
    for subclass in of.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _value(kind: Any, text: str) -> Any:
    """A plausible value of a declared type."""
    origin = typing.get_origin(kind)
    if origin is typing.Union:
        return _value(next(arm for arm in typing.get_args(kind) if arm is not type(None)), text)
    if kind is str:
        return text
    if kind is bool:
        return False
    if kind in (int, float):
        return 1
    if origin in (list, typing.Sequence) or getattr(origin, "__name__", "") == "Sequence":
        return []
    return {}


def _run(root: Path, task: dict[str, Any]) -> dict[str, Any]:
    preview = task["preview"]
    monitor = _Monitor(_Mocks(preview=preview), preview=preview)
    set_all_config(task["config"], task["secret"])
    mocks.set_mocks(
        monitor.mocks,
        project=task["project"],
        stack=task["stack"],
        preview=preview,
        monitor=monitor,
        logger=_Quiet("program"),
    )
    # `set_mocks` makes a stack and closes its outputs; `run_in_stack`, which real programs run in, makes its own.
    set_root_resource(typing.cast("Any", None))
    sys.path.insert(0, str(root))

    def program() -> None:
        runpy.run_path(str(root / "__main__.py"), run_name="__main__")

    _sync_await(stack.run_in_stack(program))
    return {
        "stack": task["stack"],
        "mode": "preview" if preview else "update",
        "resources": list(monitor.recorded.values()),
        "outputs": monitor.stack_outputs,
    }


class _Quiet(logging.Logger):
    """What the program logs; a failure is told once, by its exception."""

    def handle(self, record: logging.LogRecord) -> None:
        del record


def _told(error: BaseException, root: Path) -> str:
    """An error as people are to read it: its message, and for one that the program did not foresee its place."""
    message = str(error).strip() or type(error).__name__
    if isinstance(error, pulumi.RunError):
        return message
    message = " ".join(message.split())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(root)]
    own = [frame for frame in frames if ".venv" not in frame.filename]
    place = f" ({Path(own[-1].filename).relative_to(root)}:{own[-1].lineno})" if own else ""
    return f"the program failed: {type(error).__name__}: {message}{place}"


def main() -> None:
    """Run the program and write what it registered, or why it failed."""
    # A third of the process's time went into looking for garbage among the classes of the providers' packages: there is
    # none to speak of, and the process lives for seconds (`python -m tests.bench plan`).
    gc.disable()
    runpy.run_path(str(Path(__file__).with_name("packages.py")))["load_what_is_used"]()
    root = Path(sys.argv[1]).resolve()
    task = json.load(sys.stdin)
    # What the program prints, by whatever means, is no part of the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = _run(root, task)
    except Exception as error:  # noqa: BLE001  whatever a program raises is told in one line
        answer = {"error": _told(error, root)}
    except SystemExit as error:
        answer = {"error": f"the program ended itself with exit code {error.code}"}
    with os.fdopen(out, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
    sys.stdout.flush()
    # Pulumi's mocks leave threads behind that nothing would end.
    os._exit(0)


if __name__ == "__main__":
    main()
