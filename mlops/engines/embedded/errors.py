"""The engine's one kind of error: a line for people."""


class EmbeddedError(Exception):
    """A request or definition that the engine refuses, or a task it cannot start. The message is one line."""

    status = 400


class NotFoundError(EmbeddedError):
    """There is no such job, allocation or log."""

    status = 404


class StorageError(EmbeddedError):
    """The state folder cannot be written, usually because its disk is full."""

    status = 507
