"""A provider that says yes: every resource of an installed Pulumi SDK, with no cloud and no engine behind it.

Owns the stand-in over gRPC that the real `pulumi` attaches to through PULUMI_DEBUG_PROVIDERS. It echoes the inputs and
adds the outputs that the resource's SDK class promises, of the promised types; in a preview they are unknown. So what
is tried is the program and Pulumi's own engine: order, state, secrets, diffs. Deliberately knows no provider's rules
beyond the tables in `kinds.py`: whether a real cloud would take the values is not tried here.

To serve a further package, install its SDK and name it in `debug_providers`; add to `KINDS` what its types do not tell.
"""

# ruff: noqa: ARG002, D102, N802 - methods of the provider are gRPC's, documented in Pulumi's provider.proto.

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_origin

import grpc
from google.protobuf import empty_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi import _types
from pulumi.runtime import rpc
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.engine.kinds import INVOKES, KINDS, Kind

SECRET = {rpc._special_sig_key: rpc._special_secret_sig}


@dataclass
class PassThrough(provider_pb2_grpc.ResourceProviderServicer):
    """The provider itself, for every package at once.

    Attributes:
        calls: What the engine asked for beyond previews, in order: (method, URN or token).
    """

    kinds: Mapping[str, Kind] = field(default_factory=lambda: KINDS)
    invokes: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = field(default_factory=lambda: INVOKES)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def Handshake(self, request, context):
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, request, context):
        return empty_pb2.Empty()

    def Cancel(self, request, context):
        return empty_pb2.Empty()

    def GetPluginInfo(self, request, context):
        # One port serves all packages: newer than any version that a program asks for, or Pulumi warns.
        return plugin_pb2.PluginInfo(version="999.0.0")

    def CheckConfig(self, request, context):
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request, context):
        return _diff(request, frozenset())

    def Configure(self, request, context):
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request, context):
        with _refusing(context):
            unknown = set(request.news) - set(properties(_token(request.urn)).inputs)
            if unknown:
                raise ValueError(f"{_token(request.urn)} has no input {', '.join(sorted(unknown))}")
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request, context):
        return _diff(request, self._kind(request.urn).replaces)

    def Create(self, request, context):
        if request.preview:
            return provider_pb2.CreateResponse(properties=self._state(request.urn, request.properties, preview=True))
        self.calls.append(("Create", request.urn))
        with _refusing(context):
            name = request.urn.rpartition("::")[2]
            unique = f"{name}-{hashlib.sha256(request.urn.encode()).hexdigest()[:8]}"
            own = self._kind(request.urn).outputs(name, _plain(request.properties))
            return provider_pb2.CreateResponse(
                id=own.get("id", unique), properties=self._state(request.urn, request.properties, preview=False)
            )

    def Update(self, request, context):
        if not request.preview:
            self.calls.append(("Update", request.urn))
        with _refusing(context):
            state = self._state(request.urn, request.news, preview=request.preview)
            # What the resource computed when it was made, it keeps: a key is not another for a new label.
            for key in properties(_token(request.urn)).outputs.keys() & request.olds.fields.keys():
                state.fields[key].CopyFrom(request.olds.fields[key])
            return provider_pb2.UpdateResponse(properties=state)

    def Read(self, request, context):
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def Delete(self, request, context):
        self.calls.append(("Delete", request.urn))
        return empty_pb2.Empty()

    def Invoke(self, request, context):
        self.calls.append(("Invoke", request.tok))
        with _refusing(context):
            if request.tok not in self.invokes:
                raise ValueError(f"no answer is known to {request.tok}; add it to INVOKES in tests/engine/provider.py")
            answer = Struct()
            answer.update(self.invokes[request.tok](_plain(request.args)))
            made = provider_pb2.InvokeResponse()
            getattr(made, "return").CopyFrom(answer)
            return made

    def _kind(self, urn: str) -> Kind:
        token = _token(urn)
        return self.kinds.get(token) or self.kinds.get(token.partition(":")[0], Kind())

    def _state(self, urn: str, inputs: Struct, *, preview: bool) -> Struct:
        """The inputs with the outputs beside them; an output that is not known yet is Pulumi's own mark for that."""
        name, kind = urn.rpartition("::")[2], self._kind(urn)
        outputs: dict[str, Any] = {
            key: rpc.UNKNOWN if preview else _value(typ, f"{name}-{key}")
            for key, typ in properties(_token(urn)).outputs.items()
        }
        if not preview:
            computed = kind.outputs(name, _plain(inputs))
            # What an input is when it is not given is computed too.
            known = outputs.keys() | properties(_token(urn)).inputs.keys()
            outputs |= {key: computed[key] for key in computed.keys() & known}
        for key in kind.secrets & outputs.keys():
            outputs[key] = {**SECRET, "value": outputs[key]}
        state = Struct()
        state.update(outputs)
        state.MergeFrom(inputs)
        return state


@contextmanager
def serving(provider: PassThrough) -> Iterator[int]:
    """Serve it on a free loopback port, which is given."""
    server = grpc.server(ThreadPoolExecutor(), options=[("grpc.max_receive_message_length", 1 << 28)])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()


def debug_providers(port: int, *packages: str) -> dict[str, str]:
    """The environment by which `pulumi` takes the one served on `port` for each of the packages."""
    return {"PULUMI_DEBUG_PROVIDERS": ",".join(f"{package}:{port}" for package in packages)}


@dataclass(frozen=True)
class Properties:
    """A resource type's properties, by their names in Pulumi, with the types that its SDK gives them."""

    inputs: Mapping[str, type]
    outputs: Mapping[str, type]


@cache
def properties(token: str) -> Properties:
    """What the installed SDK says of a resource type; ValueError if it has no such type."""
    package, module, _ = token.split(":")
    try:
        importlib.import_module(f"pulumi_{package.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"no SDK of package {package} is installed, so its resources cannot be stood in for"
        ) from error
    registered = rpc.get_resource_module(package, module, "")
    info = getattr(registered, "mod_info", {"classes": {}})
    if package == "kubernetes" and registered is None and "." in module:
        # An API group that the SDK has nothing of is a cluster's own; its CustomResource declares no properties.
        return Properties(inputs={"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}, outputs={})
    if token not in info["classes"]:
        raise ValueError(f"the installed SDK of {package} has no resource {token}")
    resource = getattr(importlib.import_module(info["fqn"]), info["classes"][token])
    types = _types.resource_types(resource)
    if token == "kubernetes:helm.sh/v3:Release":  # noqa: S105 - a type
        # Sent by the SDK itself, and declared nowhere.
        types["compat"] = str
    names = _types.resource_pulumi_to_py_names(resource)
    accepted = inspect.signature(resource._internal_init).parameters
    return Properties(
        inputs={key: typ for key, typ in types.items() if names.get(key, key) in {*accepted, "compat"}},
        outputs={key: typ for key, typ in types.items() if names.get(key, key) not in {*accepted, "compat"}},
    )


def _value(typ: Any, text: str) -> Any:
    """A well-formed value of the type that the SDK promises."""
    typ = _types.unwrap_optional_type(typ)
    if typ is bool:
        return False
    if typ in (int, float):
        return 1
    origin = get_origin(typ) or typ
    if inspect.isclass(origin):
        if issubclass(origin, str):
            return text
        if issubclass(origin, Sequence):
            return []
        if issubclass(origin, Mapping):
            return {}
        if _types.is_output_type(origin):
            return {key: _value(inner, f"{text}-{key}") for key, inner in _types.output_type_types(origin).items()}
    return text


def _diff(request: provider_pb2.DiffRequest, replaces: frozenset[str]) -> provider_pb2.DiffResponse:
    """What changed between the inputs of then and now; outputs follow inputs and are no reason of their own."""
    old, new = request.old_inputs.fields, request.news.fields
    changed = sorted(key for key in {*old, *new} if key not in old or key not in new or old[key] != new[key])
    kind = provider_pb2.PropertyDiff
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=changed,
        replaces=[key for key in changed if key in replaces],
        hasDetailedDiff=True,
        detailedDiff={
            key: kind(
                inputDiff=True,
                kind=(kind.UPDATE_REPLACE if key in replaces else kind.UPDATE)
                if key in old and key in new
                else (kind.ADD_REPLACE if key in replaces else kind.ADD)
                if key in new
                else (kind.DELETE_REPLACE if key in replaces else kind.DELETE),
            )
            for key in changed
        },
    )


def _token(urn: str) -> str:
    """The resource type in a URN: the last of the types that parents put before it."""
    return urn.split("::")[2].rpartition("$")[2]


def _plain(value: Struct) -> dict[str, Any]:
    """The inputs as Python sees them, secrets opened."""

    def opened(item: Any) -> Any:
        if isinstance(item, Mapping):
            if SECRET.items() <= item.items():
                return opened(item["value"])
            return {key: opened(inner) for key, inner in item.items()}
        return [opened(inner) for inner in item] if isinstance(item, list) else item

    return opened(MessageToDict(value))


@contextmanager
def _refusing(context: grpc.ServicerContext) -> Iterator[None]:
    """A mistake in what was asked for is the caller's, in one line."""
    try:
        yield
    except ValueError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
