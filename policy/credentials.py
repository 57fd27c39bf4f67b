"""What looks like a credential: by what it is called, and by what it is. It deliberately repeats no value."""

import re

_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_\w{30,}|\bAIza[\w-]{30,}|\bAKIA[A-Z0-9]{16}\b|\bhvs\.[\w-]{20,}"
    r"|\bxox[abprs]-[\w-]{10,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}|\w://[^\s/:@]+:[^\s/@{$]+@"
)
_NAME = re.compile(
    r"(^|[^a-z])(passwords?|passwd|passphrase|secrets?|tokens?|credentials?|(api|private|access|account)[-_.]?key)$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\{\{.*\}\}|\$\(.*\)|\$\{.*\}", re.DOTALL)


def is_value(text: str) -> bool:
    """Whether a text holds what only a credential looks like: a private key, a token, a password in an address."""
    return bool(_VALUE.search(text))


def is_named(name: str, text: str) -> bool:
    """Whether a text is called a credential, and is neither empty nor a reference to one."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    written = text.strip()
    return bool(written and not _REFERENCE.fullmatch(written) and _NAME.search(words))


def is_literal(name: str, text: str) -> bool:
    """Whether a text is a credential that was written down: by its looks, or by the name that it is given."""
    return is_value(text) or is_named(name, text)
