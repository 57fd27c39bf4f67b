"""What can go wrong in the registry, as one-line messages for people.

Exit codes are those of every task image: 2 means bad input or a definite no (a repeat would say the same), 1 means
that it failed and a repeat may succeed.
"""

from mlops_registry.text import printable


def one_line(text: object) -> str:
    """Fold any text, foreign programs' output included, into one printable line."""
    return printable(" ".join(str(text).split()))[:500]


class RegistryError(Exception):
    """Base of all registry errors; `str(error)` is one line for people.

    Attributes:
        exit_code: what a program that stops on this error exits with.
    """

    exit_code = 1

    def __init__(self, message: str):
        super().__init__(one_line(message))


class BadInputError(RegistryError):
    """A name, path, option or file that cannot be right."""

    exit_code = 2


class NothingToStoreError(BadInputError):
    """There is no finished training to store, and no stored version either."""


class NotFoundError(BadInputError):
    """No such version or alias."""


class NoBucketError(NotFoundError):
    """No such bucket."""


class ConflictError(BadInputError):
    """The bucket holds other bytes under the name; they are never overwritten."""


class NotVerifiedError(BadInputError):
    """The version's newest verification did not pass, or there is none."""


class AccessError(BadInputError):
    """No credentials, or they do not allow it."""


class UnconfinedError(BadInputError):
    """What a version contains cannot be confined on this machine, so it was not loaded."""


class NotReadyError(RegistryError):
    """What another step writes is not there."""


class LostRaceError(RegistryError):
    """Somebody else moved the alias at the same time."""


class UnavailableError(RegistryError):
    """The bucket did not answer until the deadline."""


class IntegrityError(RegistryError):
    """Stored bytes are not what the manifest says."""


class TooLargeError(IntegrityError):
    """An object has more bytes than it may."""


class ScorerError(RegistryError):
    """The scorer program did not answer as it should.

    Attributes:
        definite: the scorer refused model or rows itself, so that a repeat would say the same.
    """

    def __init__(self, message: str, *, definite: bool = False):
        super().__init__(message)
        self.definite = definite
        self.exit_code = 2 if definite else 1
