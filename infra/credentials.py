"""What looks like a credential, by its name or by its form, and how a text or a value is shown without it.

Owns the patterns, for policies, settings, parameters and everything that is printed. It reads no file and knows no
resource. What neither looks like a credential nor is called one cannot be told from other text.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

MASK = "[secret]"
"""Stands for a value that is not shown."""

_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]|-(?!----END))*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}|\bAIza[\w-]{30,}|\bA[KS]IA[A-Z0-9]{16}\b"
    r"|\bya29\.[\w-]{20,}|\bhvs\.[\w-]{20,}|\bpul-[0-9a-f]{40}\b|\bxox[abprs]-[\w-]{10,}"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?"
)
_USER_INFO = re.compile(r"""://([^\s/?#"'<>]*)@""")
_QUERY = re.compile(r"""([?&;#](?:amp;)?)([\w.%~\[\]-]{1,80})=([^&;#\s"'<>]+)""")
_NAME = re.compile(
    r"(?:passw(?:or)?ds?|passphrase)[-_.]?\d*$"
    r"|(?:^|[^a-z])(?:pwd|secrets?|tokens?|credentials?|authorization"
    r"|(?:api|private|access|account|secret|signing|encryption)[-_.]?key)[-_.]?\d*$",
    re.IGNORECASE,
)
_OF_ADDRESS = re.compile(
    r"(?:^|[^a-z])(?:key|pass|auth|jwt|assertion|sig|signature|session(?:[-_]?id)?|sid|google[-_]?access[-_]?id"
    r"|aws[-_]?access[-_]?key[-_]?id|(?:subscription|functions)[-_]?key)$",
    re.IGNORECASE,
)
"""What a parameter of an address is called if it is a credential, beside `_NAME`."""
_REFERENCE = re.compile(r"\{\{.*\}\}|\$\(.*\)|\$\{.*\}|\$\w+", re.DOTALL)
_PLAIN = re.compile(
    r"true|false|yes|no|null|none|~|\d{1,4}|projects/[^/\s]+/secrets/\S+|[|>][+-]?|\[[a-z]+\]"
    r"|(?:is|are|was|has|must|should|cannot|may)(?:\s.*)?",
    re.IGNORECASE,
)
"""What follows the name of a credential and is none: a switch, a small number, a secret's name, a mark, a sentence."""

_WORD = r"[A-Za-z_][\w.-]{0,80}"
_QUOTED = r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'"""
_LINE = re.compile(
    rf"""^[ \t+-]*(?:export )?["']?({_WORD})["']?[ \t]*(?:=|:(?=\s))[ \t]*(?P<value>\S[^\n]*)$""", re.MULTILINE
)
"""A setting that is a line: of YAML, HCL, a properties file, a script."""
_INLINE = re.compile(
    rf"""(?<![\w.-])-{{0,2}}({_WORD})["']?\s?(?:=>|[:=])\s?(?P<value>{_QUOTED}|[^\s,;"'()\[\]{{}}]+)"""
)
_FLAG = re.compile(
    rf"""(?<![\w.-])--?({_WORD})(?:["']\s*,\s*|\s+)(?P<value>{_QUOTED}|[^\s,;"'()\[\]{{}}-][^\s,;"'()\[\]{{}}]*)"""
)
_PAIR = re.compile(
    rf"""\b(?:name|key)["']?\s{{0,3}}[:=]\s{{0,3}}["']?({_WORD})["']?\s*,?\s*["']?value["']?\s{{0,3}}[:=]\s{{0,3}}"""
    rf"""(?P<value>{_QUOTED}|[^\s,;"'()\[\]{{}}]+)""",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"""\b(authorization)["']?\s{0,3}[:=]\s{0,3}["']?(?:\w{1,20}[ ]+)?(?P<value>[^\s"',]+)""", re.IGNORECASE
)
_USER = re.compile(r"""(?<!\S)(?:-u|--user)[ =]["']?[^\s:"']+:(?P<value>[^\s"']+)()""")
_BLOCK = re.compile(
    rf"""^([ \t+-]*)["']?({_WORD})["']?[ \t]*(?:=[ \t]*<<[-~]?(\w+)|:[ \t]*[|>][+-]?\d?)[ \t]*$""", re.MULTILINE
)
"""Where a text of several lines begins: a heredoc of HCL, a block of YAML."""


def is_value(text: str) -> bool:
    """Whether a text holds what only a credential looks like: a private key, a token, a password in an address."""
    return bool(_VALUE.search(text)) or any(":" in match[1] and _is_secret(match[1]) for match in _users(text))


def is_named(name: str, text: str) -> bool:
    """Whether a text is called a credential, and is neither empty nor a reference to one."""
    written = text.strip()
    return bool(written and not _REFERENCE.fullmatch(written) and _NAME.search(_words(name)))


def is_literal(name: str, text: str) -> bool:
    """Whether a text is a credential that was written down: by its looks, or by the name that it is given."""
    return is_value(text) or is_named(name, text)


def in_address(text: str) -> str | None:
    """Where an address holds a credential, such as `the parameter access_token`; None if it holds none."""
    if next(_users(text), None):
        return "the part before @"
    for match in _QUERY.finditer(text):
        if _is_parameter(match):
            where = "the fragment" if "#" in text[: match.end(1)] else "the parameter"
            return f"{where} {unquote_plus(match[2])}"
    return "what looks like a token" if _VALUE.search(unquote_plus(text)) else None


def without_address_credentials(text: str) -> str:
    """A text whose addresses are shown without their credentials, and that shows no token or key."""
    text = _VALUE.sub(_lines, text)
    text = _USER_INFO.sub(lambda match: f"://{MASK}@" if _is_user_info(match) else match[0], text)
    return _QUERY.sub(lambda match: f"{match[1]}{match[2]}={MASK}" if _is_parameter(match) else match[0], text)


def masked(text: str) -> str:
    """A text as it is shown to whoever may read it: without a credential, and with as many lines as before."""
    text = _blocks(without_address_credentials(text))
    for pattern in (_LINE, _PAIR, _HEADER, _INLINE, _FLAG, _USER):
        text = pattern.sub(_setting, text)
    return text


def masked_value(value: Any, name: str = "") -> Any:
    """A value of any depth as it is shown: what is called a credential, or looks like one, is not.

    Args:
        value: What `json` reads and writes.
        name: What the value is called.
    """
    if isinstance(value, str):
        return MASK if is_named(name, value) and not _PLAIN.fullmatch(value.strip()) else masked(value)
    if isinstance(value, dict):
        called = value.get("name", value.get("key"))
        return {
            key: masked_value(inner, called if key == "value" and isinstance(called, str) else str(key))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        # What follows a flag is its value: ["--token", "..."].
        flags = [
            before if isinstance(before, str) and re.fullmatch(r"--?[\w.-]+", before) else name for before in value
        ]
        return [masked_value(inner, flag) for inner, flag in zip(value, [name, *flags], strict=False)]
    return value


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)


def _is_secret(text: str) -> bool:
    return bool(text) and not _REFERENCE.fullmatch(text.rpartition(":")[2])


def _users(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _USER_INFO.finditer(text) if _is_user_info(match))


def _is_user_info(match: re.Match[str]) -> bool:
    """Whether what stands before the @ is a credential: a password, or alone a token, which only HTTP takes so."""
    user, colon, password = match[1].partition(":")
    http = match.string[: match.start()][-5:].lower().endswith(("http", "https"))
    return _is_secret(match[1]) and bool((colon and (password or http)) or (http and user)) and match[1] != MASK


def _is_parameter(match: re.Match[str]) -> bool:
    name, value = unquote_plus(match[2]), match[3]
    words = _words(name).replace("[", "_").rstrip("]_")
    if value == MASK or _REFERENCE.fullmatch(value):
        return False
    return bool(_NAME.search(words) or _OF_ADDRESS.search(words)) or (words == "code" and len(value) > 20)


def _lines(match: re.Match[str]) -> str:
    return "\n".join([MASK] * (match[0].count("\n") + 1))


def _setting(match: re.Match[str]) -> str:
    """A setting whose value is masked, if its name calls for it."""
    name, value = match[1], match["value"]
    written = value.rstrip(", \t\r").strip("\"'")
    if MASK in value or _PLAIN.fullmatch(written) or not (is_named(name, written) or match.re is _USER):
        return match[0]
    quote = value[0] if value[:1] in ('"', "'") else ""
    comma = "," if value.endswith(",") else ""
    return f"{match[0][: match.start('value') - match.start()]}{quote}{MASK}{quote}{comma}"


def _blocks(text: str) -> str:
    """A text whose settings of several lines are masked, if their names call for it."""
    done, at = [], 0
    while match := _BLOCK.search(text, at):
        done.append(text[at : match.end()])
        at = match.end()
        if not _NAME.search(_words(match[2])):
            continue
        while at < len(text):
            end = text.find("\n", at + 1)
            end = len(text) if end < 0 else end
            line = text[at + 1 : end]
            inner = len(line) - len(line.lstrip(" \t+-")) > len(match[1])
            if (match[3] and line.strip(" \t+-") == match[3]) or (not match[3] and line.strip() and not inner):
                break
            done.append("\n" + line[: len(line) - len(line.lstrip())] + (MASK if line.strip() else ""))
            at = end
    return "".join(done) + text[at:]
