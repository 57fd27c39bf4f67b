"""What the program puts into a Nomad, on a real one: the gate, policies, pools, identities, and the drain.

Pulumi's provider of Nomad is not at hand in a test, so objects get here by the API itself, with the program's own text.
The agent has TLS, ACLs and workload identities as the platform's servers have them.
"""

import base64
import datetime
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from infra.naming import GOOGLE_AUDIENCE
from infra.nomad import access, drain, gate
from infra.nomad.api import Api
from infra.nomad.identity import jwks_json, subject
from mlops.engines.base import EngineError
from mlops.engines.nomad import NomadEngine
from tests.conftest import CHECKOUT
from tests.engine.agent import free_ports
from tests.tunnel.world import World

pytestmark = [
    pytest.mark.engine,
    pytest.mark.whole,
    pytest.mark.skipif(
        not shutil.which("nomad"),
        reason="the program `nomad` is not on PATH, so what the program puts into a Nomad was not tried; install it",
    ),
]

REGION = "eu"
ISSUER = "https://eu.nomad.example-project.internal"
TOKEN = str(uuid.uuid4())
_PATIENCE = 60

JOB = """
job "{job}" {{
  type      = "batch"
  node_pool = "{pool}"

  parameterized {{
    meta_optional = ["script"]
  }}

  meta {{
    script = "true"
  }}

  group "training" {{
    reschedule {{
      attempts  = 0
      unlimited = false
    }}

    task "store" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args    = ["-c", "eval \\"$SCRIPT\\""]
      }}
      env {{
        SCRIPT = "${{NOMAD_META_script}}"
      }}
      {blocks}
      resources {{
        cpu    = 20
        memory = 20
      }}
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Agent:
    """A real agent: its API, with the token that bootstraps it, and the folder of its CA's certificate."""

    api: Api
    ca_folder: Path

    def json(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        """Ask it, with another token or with a body."""
        answer = self.ask(method, path, body, token=token)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text.strip()}"
        return answer.json() if answer.text else None

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> requests.Response:
        """The same, whatever the answer."""
        return requests.request(
            method,
            f"{self.api.address}/v1/{path}",
            json=body,
            headers={"X-Nomad-Token": token or self.api.token},
            verify=str(self.ca_folder / "ca.pem"),
            timeout=30,
        )

    def register(self, job: str, *, blocks: str = "", pool: str = "default") -> requests.Response:
        """Register a job whose runs do what they are told."""
        text = JOB.format(job=job, pool=pool, blocks=blocks)
        parsed = self.json("POST", "jobs/parse", {"JobHCL": text, "Canonicalize": True})
        return self.ask("PUT", "jobs", {"Job": parsed})

    def dispatch(self, job: str, script: str) -> str:
        """Start a run."""
        return self.json("POST", f"job/{job}/dispatch", {"Meta": {"script": script}})["DispatchedJobID"]

    def said(self, run: str, status: str = "complete") -> str:
        """What a run wrote, once it has come to a status."""
        path = f"job/{run.replace('/', '%2F')}/allocations"

        def there() -> Any:
            found = self.json("GET", path)
            return found and found[0]["ClientStatus"] == status and found[0]

        allocation = until(there)
        found = self.ask("GET", f"client/fs/logs/{allocation['ID']}?task=store&type=stdout&plain=true")
        return found.text if found.ok else ""


@contextmanager
def agent(folder: Path, *options: str, **config: Any) -> Iterator[Agent]:
    """A real agent with TLS and ACLs, which nobody has bootstrapped yet."""
    http, rpc, serf = free_ports(3)
    tls = folder / "tls"
    tls.mkdir(parents=True)
    certificates(tls)
    files = {"ca_file": "ca.pem", "cert_file": "certificate.pem", "key_file": "key.pem"}
    settings = {
        "region": REGION,
        "bind_addr": "127.0.0.1",
        "data_dir": str(folder / "data"),
        "ports": {"http": http, "rpc": rpc, "serf": serf},
        "advertise": dict.fromkeys(("http", "rpc", "serf"), "127.0.0.1"),
        "disable_update_check": True,
        "acl": {"enabled": True},
        "tls": {
            **{key: str(tls / file) for key, file in files.items()},
            "http": True,
            "rpc": True,
            "verify_server_hostname": True,
            "verify_https_client": False,
        },
        "client": {"options": {"fingerprint.denylist": "env_aws,env_azure,env_digitalocean,env_gce"}},
        **config,
    }
    (folder / "agent.json").write_text(json.dumps(settings))
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            ["nomad", "agent", *options, "-config", str(folder / "agent.json")],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            ca = (tls / "ca.pem").read_text()
            yield Agent(Api(REGION, f"https://127.0.0.1:{http}", ca, TOKEN), tls)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A bootstrapped one with a client, that has what the program puts into it."""
    with agent(tmp_path_factory.mktemp("nomad"), "-dev", server={"oidc_issuer": ISSUER}) as one:
        until(lambda: one.ask("POST", "acl/bootstrap", {"BootstrapSecret": TOKEN}).ok)
        until(lambda: [node for node in one.json("GET", "nodes") if node["Status"] == "ready"])
        for role, (description, rules) in access.ROLES.items():
            one.json("PUT", f"acl/policy/{role}", {"Name": role, "Description": description, "Rules": rules})
            one.json("PUT", "acl/role", {"Name": role, "Policies": [{"Name": role}]})
        yield one


def test_the_gate_tells_what_is_missing_and_opens_when_it_is_there(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    with pytest.raises(RuntimeError, match=r"nothing listens there\. Nothing was put .*`mlops tunnel --stack dev -- "):
        gate.wait(Api(REGION, f"https://127.0.0.1:{nobody}", "", TOKEN), "dev", 0)

    with ExitStack() as agents:
        lonely = agents.enter_context(agent(tmp_path / "lonely", "-server", "-bootstrap-expect=3"))
        until(lambda: answers(lonely))
        with pytest.raises(RuntimeError, match="it has no leader"):
            gate.wait(lonely.api, "dev", 0)

        one = agents.enter_context(agent(tmp_path / "one", "-dev"))
        until(lambda: answers(one) and one.ask("GET", "status/leader").ok)
        with pytest.raises(RuntimeError, match=r"it does not answer .*CERTIFICATE_VERIFY_FAILED"):
            gate.wait(replace(one.api, ca_pem=lonely.api.ca_pem), "dev", 0)
        with pytest.raises(RuntimeError, match=r"it does not take the program's token \(403 ") as raised:
            gate.wait(one.api, "dev", 0)
        assert TOKEN not in str(raised.value)

        opened = threading.Event()
        threading.Thread(target=lambda: (gate.wait(one.api, "dev", _PATIENCE), opened.set()), daemon=True).start()
        assert not opened.wait(1)
        one.json("POST", "acl/bootstrap", {"BootstrapSecret": TOKEN})
        assert opened.wait(_PATIENCE)


def test_a_reader_sees_and_a_dispatcher_starts_and_stops(nomad: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nomad.register("allowed").ok
    run = nomad.dispatch("allowed", "echo hello; exec sleep 600")
    assert nomad.said(run, "running") is not None
    monkeypatch.setenv("NOMAD_CAPATH", str(nomad.ca_folder))
    engines = {}
    for role in access.ROLES:
        token = nomad.json("PUT", "acl/token", {"Type": "client", "Roles": [{"Name": role}]})["SecretID"]
        monkeypatch.setenv("NOMAD_TOKEN", token)
        engines[role] = token, NomadEngine(nomad.api.address)

    for _, engine in engines.values():
        (found,) = engine.status(run).executions
        assert found.status == "running"
        until(lambda: "hello" in "".join(engine.logs(found.id, "store", "stdout", follow=False)))  # noqa: B023

    reader, dispatcher = engines["reader"][1], engines["dispatcher"][1]
    with pytest.raises(EngineError, match="Permission denied"):
        reader.submit("allowed", {}, None)
    with pytest.raises(EngineError, match="Permission denied"):
        reader.stop(run)
    another = dispatcher.submit("allowed", {}, None)
    assert another in {found.id for found in reader.runs()}
    dispatcher.stop(run)
    until(lambda: reader.status(run).status == "stopped")

    for token, _ in engines.values():
        job = nomad.json("GET", "job/allowed")
        for method, path, body in [
            ("PUT", "jobs", {"Job": job | {"ID": "mine", "Name": "mine"}}),
            ("PUT", "var/nomad/jobs/allowed", {"Path": "nomad/jobs/allowed", "Items": {"a": "b"}}),
            ("GET", "var/nomad/jobs/allowed", None),
            ("GET", "acl/tokens", None),
            ("GET", f"jobs?namespace={access.PLATFORM}&prefix=x", None),
        ]:
            refused = nomad.ask(method, path, body, token=token)
            assert refused.status_code == 403 or refused.json() == [], f"{method} {path}: {refused.text}"


def test_a_job_needs_its_pool(nomad: Agent) -> None:
    refused = nomad.register("in-train", pool="train")
    assert refused.status_code == 500
    assert "nonexistent node pool" in refused.text
    nomad.json("PUT", "node/pools", {"Name": "train"})
    assert nomad.register("in-train", pool="train").ok


def test_tasks_prove_who_they_are_by_a_token_that_the_handed_over_keys_verify(nomad: Agent) -> None:
    """With the very blocks of the pipeline's own job."""
    text = (CHECKOUT / "jobs" / "sales_close_prediction" / "job.nomad.hcl").read_text(encoding="utf-8")
    store = text[text.index('task "store"') : text.index('task "verify"')]
    blocks = "\n".join(re.findall(r"^      (?:identity|template) \{.*?^      \}", store, re.MULTILINE | re.DOTALL))
    assert blocks.count("{\n") == 3
    job = "sales-close-prediction"
    assert nomad.register(job, blocks=blocks).ok
    show = 'cat "$NOMAD_SECRETS_DIR/nomad_google.jwt"; echo; echo "[$GOOGLE_APPLICATION_CREDENTIALS]"; '
    show += 'cat "$NOMAD_SECRETS_DIR/google.json"'

    token, file, *content = nomad.said(nomad.dispatch(job, show)).splitlines()
    assert file == "[]", "without a Variable the task has its machine's credentials"
    assert "".join(content).strip() == ""
    claims = verified(token, json.loads(jwks_json(published(nomad))))
    assert claims["sub"] == subject(REGION, "default", job, "training", "store")
    assert claims["aud"] == GOOGLE_AUDIENCE
    assert claims["iss"] == ISSUER
    assert claims["exp"] - claims["iat"] == 3600

    path, credentials = f"nomad/jobs/{job}/training", '{"type": "external_account"}'
    nomad.json("PUT", f"var/{path}", {"Path": path, "Items": {"google_credentials": credentials}})
    _, file, *content = nomad.said(nomad.dispatch(job, show)).splitlines()
    assert file == "[/secrets/google.json]"
    assert "".join(content).strip() == credentials


def test_a_person_works_through_the_tunnel(nomad: Agent, world: World) -> None:
    """With Nomad's own command, by the variables that a tunnel sets, as docs/runbooks say."""
    shutil.copy(nomad.ca_folder / "ca.pem", world.folder / "bin" / "ca.pem")
    world.live(REGION, "server", int(nomad.api.address.rpartition(":")[2]))

    def through(*command: str, token: str = TOKEN) -> str:
        process = world.start("--region", REGION, "--", "env", f"NOMAD_TOKEN={token}", *command)
        output, errors = process.communicate(timeout=_PATIENCE)
        assert process.returncode == 0, output + errors
        return output

    made = through("nomad", "acl", "token", "create", "-name=me", "-role-name=dispatcher", "-ttl=8h", "-json")
    token = json.loads(made)["SecretID"]
    assert "dispatcher" in through("nomad", "acl", "token", "self", token=token)

    before = {key["kid"] for key in published(nomad)}
    through("nomad", "operator", "root", "keyring", "rotate", "-prepublish=24h")
    listed = through("nomad", "operator", "root", "keyring", "list")
    assert "prepublished" in listed
    after = until(lambda: len(keys := published(nomad)) > len(before) and keys)
    handed_over = json.loads(jwks_json(after))
    assert before < {key["kid"] for key in handed_over["keys"]}, "Google can be told of a key before it is used"
    assert nomad.register("late", blocks='identity {\nname = "google"\naud = ["google"]\nfile = true\nttl = "1h"\n}').ok
    (token,) = nomad.said(nomad.dispatch("late", 'cat "$NOMAD_SECRETS_DIR/nomad_google.jwt"; echo')).splitlines()
    assert verified(token, {"keys": [key for key in handed_over["keys"] if key["kid"] in before]})


def test_keys_that_google_does_not_take_are_left_out_and_told() -> None:
    rsa_key = {"alg": "RS256", "e": "AQAB", "kid": "b", "kty": "RSA", "n": "x", "use": "sig", "more": 1}
    other = {"alg": "EdDSA", "crv": "Ed25519", "kid": "a", "kty": "OKP", "use": "sig", "x": "y"}
    assert jwks_json([other, rsa_key | {"kid": "c"}, rsa_key]) == (
        '{"keys":[{"alg":"RS256","e":"AQAB","kid":"b","kty":"RSA","n":"x","use":"sig"},'
        '{"alg":"RS256","e":"AQAB","kid":"c","kty":"RSA","n":"x","use":"sig"}]}'
    )
    with pytest.raises(pulumi.RunError, match="publishes no RSA key"):
        jwks_json([other])


def test_a_job_is_drained_of_its_runs_alone(nomad: Agent) -> None:
    for job in ("drained", "drained-not"):
        assert nomad.register(job).ok
    runs = [nomad.dispatch("drained", "exec sleep 600") for _ in range(2)]
    other = nomad.dispatch("drained-not", "exec sleep 600")
    for run in (*runs, other):
        nomad.said(run, "running")
    drain.stop(nomad.api, "drained", "default")
    assert {nomad.json("GET", f"job/{run.replace('/', '%2F')}")["Status"] for run in runs} == {"dead"}
    assert nomad.json("GET", f"job/{other.replace('/', '%2F')}")["Status"] == "running"
    assert nomad.json("GET", "job/drained")["Status"] == "running"
    with pytest.raises(RuntimeError, match=r"did not end within 0 s: drained-not/dispatch-"):
        drain.stop(nomad.api, "drained-not", "default", 0)
    (nobody,) = free_ports(1)
    with pytest.raises(RuntimeError, match=r"does not tell of the runs of drained .* set MLOPS_NOMAD=gone"):
        drain.stop(replace(nomad.api, address=f"https://127.0.0.1:{nobody}"), "drained", "default")


def published(nomad: Agent) -> list[dict[str, Any]]:
    """The public keys that Nomad publishes."""
    address, ca = f"{nomad.api.address}/.well-known/jwks.json", str(nomad.ca_folder / "ca.pem")
    return requests.get(address, verify=ca, timeout=30).json()["keys"]


def verified(token: str, jwks: dict[str, Any]) -> dict[str, Any]:
    """The claims of a token whose signature one of the keys verifies."""
    header, claims, signature = token.split(".")
    named = {key["kid"]: key for key in jwks["keys"]}
    key = named[json.loads(decoded(header))["kid"]]
    number = {part: int.from_bytes(decoded(key[part])) for part in ("e", "n")}
    public = rsa.RSAPublicNumbers(number["e"], number["n"]).public_key()
    public.verify(decoded(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return json.loads(decoded(claims))


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def answers(one: Agent) -> bool:
    try:
        one.ask("GET", "status/leader")
    except requests.ConnectionError:
        return False
    return True


def until(what: Any) -> Any:
    """What a condition gives, as soon as it gives something."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if found := what():
                return found
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.2)


def certificates(folder: Path) -> None:
    """A CA, and a certificate of a server of the region that people reach by 127.0.0.1."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"CA {folder.parent.name}")])

    def builder(of: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .issuer_name(name)
            .subject_name(of)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    authority = x509.BasicConstraints(ca=True, path_length=None)
    ca = builder(name, ca_key.public_key()).add_extension(authority, critical=True).sign(ca_key, hashes.SHA256())
    names = [x509.DNSName(f"server.{REGION}.nomad"), x509.DNSName("localhost")]
    certificate = (
        builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server")]), key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
