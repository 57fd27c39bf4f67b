"""The two ways a step ends badly: input that no repeat would mend (exit code 2), and everything else (exit code 1)."""


class InputError(Exception):
    """Bad input or a definite no; the message is one line for people. The program exits with 2."""


class PackagingError(Exception):
    """The step failed, and a repeat may succeed; the message is one line for people. The program exits with 1."""
