"""How a program here ends badly: bad input (exit code 2), or what may be gone at the next try (exit code 1)."""


class InputError(Exception):
    """What was given cannot be used, and repeating would say the same. The message is one line."""


class BucketError(Exception):
    """The bucket did not answer. The message is one line."""
