"""What a machine's startup script makes of it: the files that it writes, what it then runs, and Nomad's configuration.

A script is read, never run. A file is written by a here-document of a quoted word, whose text stands as it is; what is
started is followed by name, through programs and systemd's units. It deliberately knows no rule.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from inventory.resources import Resource
from policy.parts import google
from policy.rule import Part, UndecidedError

_FILE = re.compile(r"^cat >\s*(\S+) <<'(\w+)'\n(.*?)^\2\n", re.MULTILINE | re.DOTALL)
_UNITS = re.compile(r"[\w@.-]+\.(?:service|timer)")
_PROGRAM = re.compile(r"[\w.-]+\.sh\b")
_BRACES = re.compile(r"(\S*)\{([\w,.-]+,[\w,.-]+)\}(\S*)")

_MOST = 1000
"""So many ways to write a command out, and so long a one, are looked at: a change that is judged may hold anything."""


@dataclass(frozen=True)
class Script:
    """A startup script.

    Attributes:
        main: What is run itself, without the files that it writes.
        files: The files that it writes, by their names without folders.
    """

    main: str
    files: Mapping[str, str]

    @cached_property
    def programs(self) -> dict[str, list[str]]:
        """The commands of all programs that are run at a start or by a timer, by file; the script's own are of ``."""
        waiting, found, units = [""], dict[str, list[str]](), set[str]()
        while waiting:
            name = waiting.pop()
            if name in found or (name and name not in self.files):
                continue
            found[name] = commands(self.files[name] if name else self.main)
            for command in found[name]:
                waiting += _PROGRAM.findall(command)
                for unit in _started(command):
                    waiting += self._programs_of(unit, units)
        return found

    @cached_property
    def units(self) -> set[str]:
        """The units that are started, by what they are called: `mlops-snapshot.timer`."""
        started = {unit for each in self.programs.values() for command in each for unit in _started(command)}
        return started & self.files.keys()

    def by_timer(self) -> list[str]:
        """The commands of what timers run."""
        timers = [unit for unit in self.units if unit.endswith(".timer")]
        names = {name for timer in timers for name in self._programs_of(timer, set())}
        return [command for name in sorted(names) for command in self.programs.get(name, [])]

    def _programs_of(self, unit: str, seen: set[str]) -> list[str]:
        if unit in seen or unit not in self.files:
            return []
        seen.add(unit)
        lines = commands(self.files[unit])
        others = [
            name for line in lines if re.match(r"(Unit|Wants|Requires|BindsTo)=", line) for name in _UNITS.findall(line)
        ]
        if unit.endswith(".timer") and not any(line.startswith("Unit=") for line in lines):
            others.append(unit.removesuffix(".timer") + ".service")
        programs = [name for line in lines if line.startswith("Exec") for name in _PROGRAM.findall(line)]
        return programs + [name for other in others for name in self._programs_of(other, seen)]


def scripts(resource: Resource) -> Iterator[Part]:
    """The startup script of each description of machines; the value is a `Script`."""
    for machines in google.machines(resource):
        text = machines.get("metadata", "startup-script") or machines.get("metadataStartupScript")
        if text:
            files = {path.rpartition("/")[2]: content for path, _, content in _FILE.findall(str(text))}
            yield Part(resource, Script(_FILE.sub("", str(text)), files), outer=machines)


def agents(resource: Resource) -> Iterator[Part]:
    """Nomad's configuration on each description of machines; the part around it is their script.

    Raises:
        UndecidedError: Machines of Nomad's have none that can be read.
    """
    for script in scripts(resource):
        found = [each for each in map(_json, script.value.files.values()) if _is_agent(each)]
        for each in found:
            yield Part(resource, each, outer=script)
        labels = script.outer.get("labels") if script.outer else None
        if not found and isinstance(labels, Mapping) and labels.get("component") == "nomad":
            raise UndecidedError("what Nomad's agent is given by metadata.startup-script")


def blocks(part: Part, *path: str) -> list[Part]:
    """The blocks of a path in an agent's configuration: in JSON each is an object, or a list of objects."""
    found = [part]
    for key in path:
        found = [Part(part.resource, one, outer=part) for above in found for one in above.each(key)]
    return found


def last(part: Part, *path: str) -> Any:
    """A value in an agent's configuration, as it is merged: the last of several blocks has its way."""
    *above, key = path
    return next((value for one in reversed(blocks(part, *above)) if (value := one.get(key)) is not None), None)


def commands(text: str) -> list[str]:
    """The commands of a program, each in one line, without comments; and the lines of a unit."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    joined = re.sub(r"(\||&&)\n\s*", r"\1 ", joined)
    return [line.strip() for line in joined.splitlines() if line.strip()]


def expanded(text: str) -> list[str]:
    """The commands of a program with the values of plain variables and loops in them; a loop's are there once each."""
    lines = commands(text)
    values: dict[str, list[str]] = {}
    for line in lines:
        if assigned := re.fullmatch(r"(\w+)=([\w./:-]+)", line):
            values.setdefault(assigned[1], []).append(assigned[2])
        if loop := re.match(r"for (\w+) in ([^;$]+);", line):
            values.setdefault(loop[1], []).extend(loop[2].split())
    found = []
    for line in lines:
        used = [name for name in values if re.search(rf"\$\{{?{name}\b", line)]
        for chosen in itertools.islice(itertools.product(*(values[name] for name in used)), _MOST):
            written = line
            for name, value in zip(used, chosen, strict=True):
                written = re.sub(rf"\"?\$(?:{name}\b|\{{{name}\}})\"?", lambda _, value=value: value, written)
            found.append(written)
    return found


def _started(command: str) -> list[str]:
    """The units that a command starts now."""
    if not re.search(r"\bsystemctl\b.*(\b(re)?start\b|--now\b)", command) or re.search(
        r"\bdisable\b|\bmask\b", command
    ):
        return []
    while len(command) < _MOST and (braces := _BRACES.search(command)):
        names = " ".join(f"{braces[1]}{each}{braces[3]}" for each in braces[2].split(","))
        command = command[: braces.start()] + names + command[braces.end() :]
    return _UNITS.findall(command)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_agent(value: Any) -> bool:
    return isinstance(value, Mapping) and ("server" in value or "client" in value)
