"""Rules on Nomad's machines: how their agents are set, what else their startup scripts do, and their certificates."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from definitions import durations
from policy.parts import agents, google
from policy.rule import Check, Level, Part, Rule, Stack, UndecidedError

CERTIFICATES = ("tls:index/locallySignedCert:LocallySignedCert", "tls:index/selfSignedCert:SelfSignedCert")
_DRIVERS = {"docker", "exec"}
_METADATA = "169.254.169.254"
_SERF = 4648
_MONTH, _YEAR = 30 * 24, 365 * 24

_WORD = r"(?<![^\s;&|(])"
_INTERPRETER = (
    rf"{_WORD}(?:(?:sudo|env|exec)\s+(?:-\S+\s+){{0,5}}){{0,3}}(?:[^\s;&|(]*/)?"
    r"(?:(?:ba|da|z|k)?sh|(?:python|perl|ruby|node)[\d.]*)\b"
)
# Of a pipe into a shell: what it runs comes by the pipe, unless it is given a program by name.
_FROM_A_PIPE = re.compile(rf"\|&?\s*(?:{_INTERPRETER})(?:\s+-\S*){{0,9}}\s*(?:$|[|;&)>]|-s\b|--\s)")
_SUBSTITUTED = re.compile(rf"(?:{_INTERPRETER}|{_WORD}(?:eval|source|\.))\s+(?:-\w+\s+){{0,5}}\"?(?:<\(|\$\(|`)")
_FETCHED = re.compile(r"\b(?:curl|wget|google)\s")
_HOST = re.compile(r"\bhttps?://([^/\s\"':]+)")
_INTO_A_FILE = re.compile(
    r"\s(?:--output|-[a-zA-Z]*o|--output-document)[ =](?!\"?/dev/null)"
    r"|\s(?:-[a-zA-Z]*O|--remote-name)\b|(?<![\d&<])>\s*(?!&|/dev/null)"
)
_CHECKED = re.compile(r"\bsha(?:256|384|512)sum\s.*(?:--check|-\w*c)\b|\bgpgv?\s.*(?:--verify|\.sig)|\bcosign verify")
_UNPINNED = re.compile(r"\bgit clone\b|\bpip3?\S* install\b(?!.*--require-hashes)|\bnpm (?:install|i)\b")


def _acl(agent: Part, _: Stack) -> Iterator[str]:
    if agents.last(agent, "acl", "enabled") is not True:
        yield "acl.enabled is not true"


def _tls(agent: Part, _: Stack) -> Iterator[str]:
    for key in ("http", "rpc", "verify_server_hostname"):
        if agents.last(agent, "tls", key) is not True:
            yield f"tls.{key} is not true"
    for key in ("ca_file", "cert_file", "key_file"):
        if not agents.last(agent, "tls", key):
            yield f"tls.{key} is not set"
    if agents.last(agent, "tls", "rpc_upgrade_mode"):
        yield "tls.rpc_upgrade_mode takes connections without TLS too"


def _drivers(agent: Part, _: Stack) -> Iterator[str]:
    if not _enabled(agent, "client"):
        return
    allowed = _names(agents.last(agent, "client", "options", "driver.allowlist"))
    if not allowed:
        yield "client.options has no driver.allowlist, so every driver is used"
    if strange := sorted(allowed - _DRIVERS):
        yield f"client.options.driver.allowlist has {', '.join(strange)}"
    if str(agents.last(agent, "client", "options", "driver.raw_exec.enable") or "0").lower() not in ("0", "false"):
        yield "client.options.driver.raw_exec.enable is set"
    for config in agents.blocks(agent, "plugin", "raw_exec", "config"):
        if config.get("enabled") not in (None, False):
            yield "plugin raw_exec is enabled"
    for config in agents.blocks(agent, "plugin", "docker", "config"):
        if config.get("allow_privileged") not in (None, False):
            yield "plugin docker allows privileged containers"
        if any(volumes.get("enabled") not in (None, False) for volumes in agents.blocks(config, "volumes")):
            yield "plugin docker lets containers mount any path of the machine"


def _root(agent: Part, _: Stack) -> Iterator[str]:
    if not _enabled(agent, "client"):
        return
    # What is not set is Nomad's default, which keeps root from every driver of the machine's own.
    denied = agents.last(agent, "client", "options", "user.denylist")
    if denied is not None and "root" not in _names(denied):
        yield "client.options.user.denylist has no root"
    checked = agents.last(agent, "client", "options", "user.checked_drivers")
    if checked is not None and "exec" not in _names(checked):
        yield "client.options.user.checked_drivers has no exec"


def _gossip(agent: Part, _: Stack) -> Iterator[str]:
    if not _enabled(agent, "server") or agents.last(agent, "server", "encrypt"):
        return
    commands = [command for each in _script(agent).programs.values() for command in each]
    written = {
        match[1] for command in commands if (match := re.search(r"\bencrypt\b.*>\s*\"?(?:\S*/)?([\w.-]+)\"?", command))
    }
    if not any(f"/etc/nomad.d/{name}" in command for name in written for command in commands):
        yield "neither the configuration nor a file that the script puts beside it has server.encrypt"


def _metadata(agent: Part, _: Stack) -> Iterator[str]:
    if not _enabled(agent, "client"):
        return
    script = _script(agent)
    rules = [rule for name in script.programs for rule in _firewall(script.files.get(name, script.main))]
    for chain, whom, beside in (
        ("DOCKER-USER", "containers", set()),
        ("OUTPUT", "tasks on the machine itself", {("!", "--uid-owner", "0")}),
    ):
        of_chain = [options for name, options in rules if name == chain]
        may_be = {("", "--protocol", "tcp"), ("!", "--dport", "53"), ("", "--match", "owner"), *beside}
        refused = {("", "--jump", "REJECT"), ("", "--jump", "DROP")}
        if not any(
            ("", "--destination", _METADATA) in options
            and options & refused
            and options <= may_be | refused | {("", "--destination", _METADATA)}
            for options in of_chain
        ):
            yield f"nothing keeps {whom} from {_METADATA}: no rule of {chain} that refuses all of TCP but names"


def _firewall(program: str) -> Iterator[tuple[str, frozenset[tuple[str, str, str]]]]:
    """The chain and the options (not, name, value) of each of iptables' rules in a program."""
    long = {"-d": "--destination", "-p": "--protocol", "-j": "--jump", "-m": "--match"}
    for command in agents.expanded(program):
        chain = re.search(r"\b(DOCKER-USER|OUTPUT)\b", command)
        try:
            words = shlex.split(command[chain.end() :]) if chain else []
        except ValueError:
            continue
        options, negated = set[tuple[str, str, str]](), ""
        for word, value in zip(words, [*words, ""][1:], strict=True):
            if word.startswith("-"):
                options.add((negated, long.get(word, word), value))
            negated = "!" if word == "!" else ""
        if chain and any(name == "--jump" for _, name, _ in options):
            yield chain[1], frozenset(options)


def _snapshots(agent: Part, _: Stack) -> Iterator[str]:
    if _enabled(agent, "server") and not any(
        re.search(r"\boperator snapshot save\b|/v1/operator/snapshot\b", command)
        for command in _script(agent).by_timer()
    ):
        yield "no timer that the script starts saves a snapshot"


def _rotation(agent: Part, _: Stack) -> Iterator[str]:
    # Without an issuer nobody outside of Nomad knows its keys.
    if not _enabled(agent, "server") or not agents.last(agent, "server", "oidc_issuer"):
        return
    given = agents.last(agent, "server", "root_key_rotation_threshold")
    hours = _hours("720h" if given is None else given)
    if hours < 5 * _YEAR:
        yield f"server.root_key_rotation_threshold is {given or 'not set, which is 720h'}"


def _downloads(script: Part, _: Stack) -> Iterator[str]:
    of: agents.Script = script.value
    # All that is written can be run; what is no program has none of these commands.
    for name, text in {"the script itself": of.main, **of.files}.items():
        commands = agents.commands(text)
        for number, command in enumerate(commands):
            if _FROM_A_PIPE.search(command) or _SUBSTITUTED.search(command):
                yield f"{name} runs what another command answers: {_short(command)}"
            elif _UNPINNED.search(command):
                yield f"{name} installs what nothing pins: {_short(command)}"
            elif _is_download(command) and not any(map(_CHECKED.search, commands[number:])):
                yield f"{name} keeps what it downloads without a look at its digest: {_short(command)}"


def _is_download(command: str) -> bool:
    hosts = set(_HOST.findall(command)) - {"127.0.0.1", "localhost", _METADATA}
    plain_wget = re.search(r"\bwget\s", command) and not re.search(r"-\w*O\s*(-|/dev/null)", command)
    return bool(hosts and _FETCHED.search(command) and (plain_wget or _INTO_A_FILE.search(command)))


def _own_script(machines: Part, _: Stack) -> Iterator[str]:
    if machines.get("metadata", "startup-script-url"):
        yield "metadata.startup-script-url names a script that stands elsewhere"


def _renewed(certificate: Part, _: Stack) -> Iterator[str]:
    # Another CA parts those that have it from those that do not: it is made by people.
    if certificate.get("isCaCertificate") is True:
        return
    valid, early = certificate.get("validityPeriodHours"), certificate.get("earlyRenewalHours") or 0
    wanted = min(_MONTH, valid / 3)
    if early < wanted:
        yield f"it is valid for {valid} hours and made anew {early} before its end, less than {wanted:.0f}"
    elif early >= valid:
        yield f"it is made anew {early} hours before its end and valid for {valid}, so by every update"


def _serf(firewall: Part, _: Stack) -> Iterator[str]:
    if firewall.get("direction") == "EGRESS":
        return
    opened = {
        part.get("protocol")
        for part in (Part(firewall.resource, allowed) for allowed in firewall.each("allows"))
        if not part.get("ports") or any(_has(str(ports), _SERF) for ports in part.each("ports"))
    }
    if "all" not in opened and len(opened & {"tcp", "udp"}) == 1:
        yield f"port {_SERF} is open by {' and '.join(sorted(opened & {'tcp', 'udp'}))} alone"


def _has(ports: str, port: int) -> bool:
    low, _, high = ports.partition("-")
    return int(low) <= port <= int(high or low)


def _enabled(agent: Part, role: str) -> bool:
    return agents.last(agent, role, "enabled") is True


def _script(agent: Part) -> agents.Script:
    assert agent.outer, "parts.agents"  # noqa: S101
    return agent.outer.value


def _names(value: Any) -> set[str]:
    return {name.strip() for name in str(value or "").split(",")} - {""}


def _hours(duration: Any) -> float:
    """A duration of Go's, `1h30m`, in hours."""
    try:
        return durations.seconds(str(duration)) / 3600
    except ValueError:
        raise UndecidedError(f"how long {duration!r} is") from None


def _short(command: str) -> str:
    return command if len(command) <= 100 else f"{command[:97]}..."


def _of_agents(id_: str, holds: str, why: str, fix: str, check: Check) -> Rule:
    return Rule(
        id=id_,
        level=Level.MANDATORY,
        holds=holds,
        why=why,
        fix=fix,
        check=check,
        types=google.INSTANCES,
        parts=agents.agents,
    )


RULES = (
    _of_agents(
        "nomad-agent-acl",
        "Every agent asks for a token.",
        "Nomad's security model rests on ACLs: without them whoever reaches the API runs what they like as any job.",
        "Keep acl.enabled in infra/nomad/agent.py.",
        _acl,
    ),
    _of_agents(
        "nomad-agent-tls",
        "Agents talk by TLS alone, and take no client for a server.",
        "Nomad's page on tls: without verify_server_hostname the certificate of any client does for a server.",
        "Keep http, rpc, verify_server_hostname and the three files of `tls` in infra/nomad/agent.py.",
        _tls,
    ),
    _of_agents(
        "nomad-agent-drivers",
        "Clients run tasks by docker and exec alone, with no privileged container and no path of the machine.",
        "Nomad's page on raw_exec: a task runs as the agent's user, without any isolation; here that user is root.",
        "Keep driver.allowlist at docker,exec, and raw_exec, allow_privileged and volumes off.",
        _drivers,
    ),
    _of_agents(
        "nomad-agent-root",
        "A task on the machine itself is never root.",
        "Nomad's options user.denylist and user.checked_drivers; the metadata server is refused to all users but root.",
        "Keep root in user.denylist, and exec in user.checked_drivers.",
        _root,
    ),
    _of_agents(
        "nomad-agent-gossip-key",
        "What servers tell each other by gossip is encrypted.",
        "Nomad's tutorial on gossip encryption: whoever sends to port 4648 could else join, and say who is gone.",
        "Put the gossip key from Secret Manager into server.encrypt, as infra/nomad/files/server.sh does.",
        _gossip,
    ),
    _of_agents(
        "nomad-agent-metadata",
        "Clients keep tasks from the metadata server.",
        "Google's metadata server gives the machine's own token to every process that asks it.",
        "Run infra/nomad/files/metadata-guard.sh before the agent, with its rules for containers and processes.",
        _metadata,
    ),
    _of_agents(
        "nomad-agent-snapshots",
        "Servers save snapshots of Nomad's state by themselves.",
        "Nomad's page on operator snapshot save, its means for disaster recovery: what no snapshot has is lost.",
        "Have server.sh start the timer of snapshot.sh.",
        _snapshots,
    ),
    _of_agents(
        "nomad-agent-key-rotation",
        "Servers whose keys someone else is told of do not make new ones by themselves.",
        "Nomad makes a new key each 720h by default; Google takes no token that is signed by a key it was not given.",
        "Keep the threshold at years, and rotate by docs/runbooks/rotate-identity-keys.md.",
        _rotation,
    ),
    Rule(
        id="machine-script-downloads",
        level=Level.MANDATORY,
        holds="A startup script runs nothing from elsewhere that it has not compared with a digest.",
        why="Codecov, 2021: a script that thousands piped into a shell was changed at its source for two months.",
        fix="Download to a file, compare it by sha256sum --check with a digest from the settings, then run it.",
        check=_downloads,
        types=google.INSTANCES,
        parts=agents.scripts,
    ),
    Rule(
        id="machine-script-elsewhere",
        level=Level.MANDATORY,
        holds="A machine's startup script is in its template.",
        why="Compute Engine runs startup-script-url as root at each start: whoever may write there has the machine.",
        fix="Put the script into metadata.startup-script.",
        check=_own_script,
        types=google.INSTANCES,
        parts=google.machines,
    ),
    Rule(
        id="certificate-renewal",
        level=Level.MANDATORY,
        holds="Certificates are made anew a month before their end; those of under three months, in the last third.",
        why="pulumi-tls renews only in an update: one must come between the two, and machines take it some time later.",
        fix="Keep early_renewal_hours in infra/nomad/certificates.py.",
        check=_renewed,
        types=CERTIFICATES,
    ),
    Rule(
        id="nomad-gossip-ports",
        level=Level.MANDATORY,
        holds="Where Nomad's port for gossip is open, it is by TCP and UDP.",
        why="Nomad's page of requirements, chapter on ports: Serf needs both; by one alone healthy servers are failed.",
        fix="Open 4648 by both protocols, as infra/nomad/firewall.py does.",
        check=_serf,
        types=(google.FIREWALL,),
    ),
)
