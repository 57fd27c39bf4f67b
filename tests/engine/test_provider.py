"""The stand-in provider does what the engine tests rely on; the real engine is not needed to see that."""

import base64
import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pulumi
import pulumi_nomad
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from tests.engine.kinds import INVOKES, KINDS, Kind
from tests.engine.provider import SECRET, PassThrough, debug_providers, properties, serving

JOB = "nomad:index/job:Job"
VARIABLE = "nomad:index/variable:Variable"
JOBSPEC = 'job "hello" {\n}\n'


@dataclass
class Engine:
    """The engine's side of the conversation."""

    stub: provider_pb2_grpc.ResourceProviderStub
    provider: PassThrough

    def create(self, token: str, inputs: dict, *, preview: bool = False) -> tuple[str, dict]:
        """Create a resource and give its id and state."""
        made = self.stub.Create(provider_pb2.CreateRequest(urn=urn(token), properties=struct(inputs), preview=preview))
        return made.id, MessageToDict(made.properties)

    def diff(self, token: str, old: dict, new: dict) -> provider_pb2.DiffResponse:
        """Compare the inputs of then and now."""
        return self.stub.Diff(
            provider_pb2.DiffRequest(urn=urn(token), id="x", old_inputs=struct(old), news=struct(new))
        )


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A provider that replaces and hides something, and an engine attached to it."""
    provider = PassThrough(
        kinds={**KINDS, VARIABLE: Kind(replaces=frozenset({"path"}))},
        invokes={"nomad:index/getRegions:getRegions": lambda args: {"regions": [args["prefix"]]}},
    )
    with serving(provider) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Engine(provider_pb2_grpc.ResourceProviderStub(channel), provider)


def struct(values: dict) -> Struct:
    made = Struct()
    made.update(values)
    return made


def urn(token: str) -> str:
    return f"urn:pulumi:local::hybrid-mlops::hybrid-mlops:workloads:NomadJobs${token}::hello"


def test_create_echoes_inputs_and_gives_outputs_of_the_promised_types(engine: Engine) -> None:
    id_, state = engine.create(JOB, {"jobspec": JOBSPEC, "hcl2": {"vars": {"count": "1"}}})
    assert (id_, state["name"]) == ("hello", "hello")
    assert state["jobspec"] == JOBSPEC
    assert state["hcl2"] == {"vars": {"count": "1"}}
    assert (state["version"], state["stop"], state["taskGroups"]) == (1, False, [])
    assert "purgeOnDestroy" not in state, "an input that was not given is no output"


# What a program may derive from an output must be there in a form that parses.
FORMS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "gcp:compute/network:Network",
        {"name": "n"},
        "selfLink",
        r"https://www\.googleapis\.com/compute/v1/projects/.*/n",
    ),
    (
        "gcp:serviceaccount/account:Account",
        {"accountId": "a"},
        "email",
        r"a@stand-in-project\.iam\.gserviceaccount\.com",
    ),
    ("gcp:serviceaccount/account:Account", {"accountId": "a"}, "member", r"serviceAccount:a@.*"),
    ("gcp:storage/bucket:Bucket", {"name": "b"}, "url", r"gs://b"),
    ("gcp:container/cluster:Cluster", {"name": "c", "location": "l"}, "endpoint", r"10\.0\.0\.2"),
    (
        "gcp:projects/serviceIdentity:ServiceIdentity",
        {"service": "x.googleapis.com"},
        "email",
        r"service-\d+@gcp-sa-x\..*",
    ),
    (
        "gcp:iam/workloadIdentityPool:WorkloadIdentityPool",
        {"workloadIdentityPoolId": "p"},
        "name",
        r"projects/\d+/.*/p",
    ),
    (
        "random:index/randomUuid:RandomUuid",
        {},
        "result",
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    ),
    ("random:index/randomId:RandomId", {"byteLength": 2}, "hex", r"[0-9a-f]{4}"),
    ("random:index/randomString:RandomString", {"length": 6}, "result", r"[0-9a-f]{6}"),
    ("kubernetes:helm.sh/v3:Release", {"chart": "c", "name": "r", "namespace": "n"}, "status", r".*'deployed'.*"),
]


@pytest.mark.parametrize(("token", "inputs", "output", "form"), FORMS, ids=[f"{row[0]} {row[2]}" for row in FORMS])
def test_computed_outputs_are_well_formed(engine: Engine, token: str, inputs: dict, output: str, form: str) -> None:
    id_, state = engine.create(token, inputs)
    assert re.fullmatch(form, str(state[output])), state[output]
    assert id_
    assert inputs.items() <= state.items()


def test_keys_and_certificates_are_real_and_secrets_marked(engine: Engine) -> None:
    _, key = engine.create("tls:index/privateKey:PrivateKey", {"algorithm": "ECDSA"})
    assert key["privateKeyPem"].items() >= SECRET.items()
    pem = key["privateKeyPem"]["value"].encode()
    private = serialization.load_pem_private_key(pem, None)
    assert private.public_key() == serialization.load_pem_public_key(key["publicKeyPem"].encode())
    _, signed = engine.create(
        "tls:index/selfSignedCert:SelfSignedCert",
        {"allowedUses": [], "validityPeriodHours": 1, "privateKeyPem": {**SECRET, "value": "x"}},
    )
    x509.load_pem_x509_certificate(signed["certPem"].encode())
    _, request = engine.create("tls:index/certRequest:CertRequest", {"privateKeyPem": {**SECRET, "value": "x"}})
    assert x509.load_pem_x509_csr(request["certRequestPem"].encode()).is_signature_valid
    _, secret = engine.create("random:index/randomBytes:RandomBytes", {"length": 32})
    assert len(base64.b64decode(secret["base64"]["value"])) == 32
    _, token = engine.create("nomad:index/aclToken:AclToken", {"type": "client"})
    assert token["secretId"].items() >= SECRET.items()


def test_the_tables_name_what_the_sdks_have() -> None:
    for token in KINDS:
        if ":" in token:
            assert properties(token).inputs, token
        else:
            assert importlib.import_module(f"pulumi_{token}")
    for token in INVOKES:
        package, module, function = token.split(":")
        where = "" if module.startswith("index/") else f".{module.partition('/')[0]}"
        name = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", function).lower()
        assert hasattr(importlib.import_module(f"pulumi_{package}{where}"), name), token


def test_an_update_keeps_what_was_computed_when_the_resource_was_made(engine: Engine) -> None:
    token = "random:index/randomUuid:RandomUuid"  # noqa: S105
    update = provider_pb2.UpdateRequest(
        urn=urn(token), id="x", olds=struct({"result": "of-then"}), news=struct({"keepers": {"a": "b"}})
    )
    state = MessageToDict(engine.stub.Update(update).properties)
    assert state == {"result": "of-then", "keepers": {"a": "b"}}


def test_a_provider_of_any_package_is_configured(engine: Engine) -> None:
    for package in ("gcp", "nomad", "kubernetes", "random", "tls"):
        given = struct({"region": "europe-west4"})
        provider = f"urn:pulumi:local::hybrid-mlops::pulumi:providers:{package}::p"
        checked = engine.stub.CheckConfig(provider_pb2.CheckRequest(urn=provider, news=given))
        assert checked.inputs == given
        configured = engine.stub.Configure(provider_pb2.ConfigureRequest(args=given, acceptSecrets=True))
        assert configured.acceptSecrets
        assert configured.supportsPreview
        moved = engine.stub.DiffConfig(
            provider_pb2.DiffRequest(urn=provider, old_inputs=given, news=struct({"region": "us-east1"}))
        )
        assert (list(moved.diffs), list(moved.replaces)) == (["region"], [])


def test_every_resource_of_the_sdk_can_be_made(engine: Engine) -> None:
    kinds = [kind for kind in vars(pulumi_nomad).values() if isinstance(kind, type)]
    tokens = {getattr(kind, "pulumi_type", "") for kind in kinds if issubclass(kind, pulumi.CustomResource)} - {
        "pulumi:providers:nomad"
    }
    assert len(tokens) > 10
    for token in tokens:
        id_, state = engine.create(token, {"jobspec": JOBSPEC} if token == JOB else {})
        assert id_, token
        assert None not in state.values(), token


def test_a_custom_resource_of_any_group_can_be_made(engine: Engine) -> None:
    inputs = {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "spec": {"entrypoint": "main"}}
    token = "kubernetes:argoproj.io/v1alpha1:WorkflowTemplate"  # noqa: S105
    inputs |= {"metadata": {"name": "hello"}}
    engine.stub.Check(provider_pb2.CheckRequest(urn=urn(token), news=struct(inputs)))
    assert engine.create(token, inputs)[1] == inputs


def test_in_a_preview_every_computed_output_is_unknown(engine: Engine) -> None:
    id_, state = engine.create(JOB, {"jobspec": JOBSPEC}, preview=True)
    assert id_ == ""
    computed = {key: value for key, value in state.items() if key != "jobspec"}
    assert len(computed) > 10
    assert set(computed.values()) == {rpc.UNKNOWN}
    assert engine.provider.calls == []


def test_secret_inputs_stay_secret_and_named_outputs_become_it(engine: Engine) -> None:
    _, state = engine.create(JOB, {"jobspec": {**SECRET, "value": JOBSPEC}})
    assert state["jobspec"] == {**SECRET, "value": JOBSPEC}
    assert state["name"] == "hello"
    engine.provider.kinds = {JOB: Kind(secrets=frozenset({"modifyIndex"}))}
    _, state = engine.create(JOB, {"jobspec": JOBSPEC})
    assert state["modifyIndex"] == {**SECRET, "value": "hello-modifyIndex"}


@pytest.mark.parametrize(
    ("old", "new", "diffs", "replaces"),
    [
        ({"path": "a"}, {"path": "a"}, [], []),
        ({"path": "a"}, {"path": "b"}, ["path"], ["path"]),
        ({"path": "a", "namespace": "n"}, {"path": "a"}, ["namespace"], []),
        ({"path": "a"}, {"path": "a", "items": {"k": "v"}}, ["items"], []),
        ({"items": {**SECRET, "value": "1"}}, {"items": {**SECRET, "value": "2"}}, ["items"], []),
    ],
)
def test_diff_names_what_changed_and_what_replaces(
    engine: Engine, old: dict, new: dict, diffs: Sequence[str], replaces: Sequence[str]
) -> None:
    answer = engine.diff(VARIABLE, old, new)
    assert (list(answer.diffs), list(answer.replaces)) == (diffs, replaces)
    assert answer.changes == (answer.DIFF_SOME if diffs else answer.DIFF_NONE)
    assert sorted(answer.detailedDiff) == diffs


def test_update_and_delete_are_recorded(engine: Engine) -> None:
    updated = engine.stub.Update(
        provider_pb2.UpdateRequest(urn=urn(JOB), id="hello", news=struct({"jobspec": JOBSPEC, "detach": True}))
    )
    assert MessageToDict(updated.properties)["detach"] is True
    engine.stub.Delete(provider_pb2.DeleteRequest(urn=urn(JOB), id="hello"))
    assert [method for method, _ in engine.provider.calls] == ["Update", "Delete"]


def test_read_gives_what_the_state_holds(engine: Engine) -> None:
    read = engine.stub.Read(provider_pb2.ReadRequest(urn=urn(JOB), id="hello", properties=struct({"version": 3})))
    assert (read.id, MessageToDict(read.properties)) == ("hello", {"version": 3})


def test_functions_answer_from_the_table_or_say_which_is_missing(engine: Engine) -> None:
    token = "nomad:index/getRegions:getRegions"  # noqa: S105
    answer = engine.stub.Invoke(provider_pb2.InvokeRequest(tok=token, args=struct({"prefix": "eu"})))
    assert MessageToDict(getattr(answer, "return")) == {"regions": ["eu"]}
    with pytest.raises(grpc.RpcError, match="no answer is known to nomad:index/getJob:getJob"):
        engine.stub.Invoke(provider_pb2.InvokeRequest(tok="nomad:index/getJob:getJob"))


@pytest.mark.parametrize(
    ("token", "inputs", "message"),
    [
        (JOB, {"jobspecs": ""}, "has no input jobspecs"),
        ("kubernetes:argoproj.io/v1alpha1:WorkflowTemplate", {"sepc": {}}, 'WorkflowTemplate has no input sepc"'),
        ("kubernetes:apps/v1:Deploymnet", {}, "has no resource kubernetes:apps/v1:Deploymnet"),
        ("nomad:index/jobs:Jobs", {}, "has no resource nomad:index/jobs:Jobs"),
        ("nowhere:index/thing:Thing", {}, "no SDK of package nowhere is installed"),
    ],
)
def test_what_no_sdk_knows_is_refused(engine: Engine, token: str, inputs: dict, message: str) -> None:
    with pytest.raises(grpc.RpcError, match=message):
        engine.stub.Check(provider_pb2.CheckRequest(urn=urn(token), news=struct(inputs)))


def test_one_port_serves_every_package() -> None:
    assert debug_providers(7, "nomad", "gcp") == {"PULUMI_DEBUG_PROVIDERS": "nomad:7,gcp:7"}
