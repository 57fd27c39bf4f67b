"""Rules on machines: of which type they are, how one comes into them, and as whom they act.

Numbers are those of the CIS Google Cloud Platform Foundation Benchmark 2.0.
"""

import re
from collections.abc import Iterator

from infra import credentials
from infra.machines import machine
from policy.parts import google
from policy.rule import Check, Level, Part, Rule, Stack

_LOGIN = {"block-project-ssh-keys": "TRUE", "enable-oslogin": "TRUE", "serial-port-enable": "FALSE"}


def _of_n1(machines: Part, _: Stack) -> Iterator[str]:
    # The pool that GKE makes and throws away at once runs nothing.
    thrown_away = machines.outer is not None and machines.outer.get("removeDefaultNodePool") is True
    name = str(machines.get("machineType")).rpartition("/")[2]
    if not machine(name):
        yield f"machineType is {name}, which is no n1"
    if not thrown_away and not machines.get("minCpuPlatform"):
        yield "minCpuPlatform is not set"


def _login(machines: Part, _: Stack) -> Iterator[str]:
    for key, wanted in _LOGIN.items():
        found = machines.get("metadata", key)
        if str(found).upper() != wanted:
            yield f"metadata.{key} is {'not set' if found is None else found}, not {wanted}"


def _shielded(machines: Part, _: Stack) -> Iterator[str]:
    # A node pool's virtual TPM is not to be chosen.
    keys = ["enableSecureBoot", "enableIntegrityMonitoring"]
    for key in [*keys, "enableVtpm"] if machines.where == "" else keys:
        if machines.get("shieldedInstanceConfig", key) is not True:
            yield f"shieldedInstanceConfig.{key} is not true"


def _own_account(machines: Part, _: Stack) -> Iterator[str]:
    account = machines.get("serviceAccount")
    email = machines.get("serviceAccount", "email") if isinstance(account, dict) else account
    if not email or email == "default" or re.fullmatch(r"\d+-compute@developer\.gserviceaccount\.com", str(email)):
        yield f"serviceAccount is {email or 'not set'}, the default account, which may edit the project"


def _private(machines: Part, _: Stack) -> Iterator[str]:
    for interface in machines.each("networkInterfaces"):
        for key in ("accessConfigs", "ipv6AccessConfigs"):
            if machines.inner(interface, "").get(key):
                yield f"networkInterfaces.{key} gives it a public address"


def _forwarding(machines: Part, _: Stack) -> Iterator[str]:
    if machines.get("canIpForward") is True:
        yield "canIpForward is true"


def _encrypted(machines: Part, _: Stack) -> Iterator[str]:
    if machines.outer is None:
        for disk in machines.each("disks"):
            if not machines.inner(disk, "").get("diskEncryptionKey", "kmsKeySelfLink"):
                yield f"disk {disk.get('deviceName') or 'boot'} has no key of the stack's"
    elif machines.outer.get("removeDefaultNodePool") is not True and not machines.get("bootDiskKmsKey"):
        yield "bootDiskKmsKey is not set"


def _told_nothing_secret(machines: Part, _: Stack) -> Iterator[str]:
    for key in machines.get("metadata") or {}:
        if credentials.is_value(str(machines.get("metadata", key))):
            yield f"metadata.{key} holds what looks like a credential"


def _rule(
    id_: str, holds: str, why: str, fix: str, check: Check, level: Level = Level.MANDATORY, *, nodes: bool = True
) -> Rule:
    return Rule(
        id=id_,
        level=level,
        holds=holds,
        why=why,
        fix=fix,
        check=check,
        types=google.MACHINES if nodes else google.INSTANCES,
        parts=google.machines,
    )


RULES = (
    _rule(
        "machine-n1",
        "Every machine is an n1 whose CPU platform is pinned.",
        "Nomad's cpu_total_compute and the plan's capacity are of one CPU; another platform makes both of them wrong.",
        "Choose an n1 machine type in the stack's settings, and keep `min_cpu_platform`.",
        _of_n1,
    ),
    _rule(
        "machine-login",
        "Machines let in by OS Login alone: no key of the project's, no serial console.",
        "CIS GCP 4.3, 4.4 and 4.5: a key of the project's opens every machine, and the console has no firewall.",
        "Keep block-project-ssh-keys TRUE, enable-oslogin TRUE and serial-port-enable FALSE in the metadata.",
        _login,
        nodes=False,
    ),
    _rule(
        "machine-shielded",
        "Machines are shielded: secure boot, integrity monitoring and, where it can be chosen, a virtual TPM.",
        "CIS GCP 4.8, CIS GKE 5.5: a rootkit below the system is seen by nothing on it.",
        "Set shieldedInstanceConfig as infra/nomad/machines.py does.",
        _shielded,
    ),
    _rule(
        "machine-service-account",
        "Machines act as a service account of their own.",
        "CIS GCP 4.1: the default account has the role Editor in many projects, so that each task on it has too.",
        "Give the machines a service account with the roles that they need, as infra/nomad/accounts.py does.",
        _own_account,
    ),
    _rule(
        "machine-private",
        "No machine has a public address.",
        "CIS GCP 4.9: scanners find it within minutes; people come in through IAP, machines out by Cloud NAT.",
        "Remove accessConfigs from the network interface.",
        _private,
        nodes=False,
    ),
    _rule(
        "machine-forwarding",
        "No machine passes on packets that are not its own.",
        "CIS GCP 4.6: with forwarding a machine may send as another address, past rules by source.",
        "Remove canIpForward.",
        _forwarding,
        nodes=False,
    ),
    _rule(
        "machine-disk-key",
        "Disks are encrypted with a key of the stack's.",
        "CIS GCP 4.7: whoever may revoke the key can make every copy of a disk unreadable.",
        "Set the disk's key to the stack's key `disks`.",
        _encrypted,
        Level.ADVISORY,
    ),
    _rule(
        "machine-metadata-credential",
        "No credential stands in a machine's metadata or startup script.",
        "Every process on the machine reads its metadata server, and so do all who may view the template.",
        "Put it into Secret Manager, and let the startup script read it with the machine's identity.",
        _told_nothing_secret,
        nodes=False,
    ),
)
