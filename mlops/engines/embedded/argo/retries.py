"""Whether a template that failed is tried again, and after which pause: its `retryStrategy`."""

import time
from collections.abc import Mapping
from typing import Any

from definitions import durations
from definitions.argo.models import RetryStrategy
from mlops.engines.embedded.argo import expressions, tags
from mlops.engines.embedded.errors import EmbeddedError


class Retries:
    """The attempts of one template.

    Attributes:
        attempts: How many have ended.
        last: What tags and expressions may ask of the last one.
    """

    def __init__(self, strategy: RetryStrategy, env: Mapping[str, Any]) -> None:
        self._strategy = strategy
        self._limit = None if strategy.limit is None else whole(tags.fill(strategy.limit, env), "retryStrategy.limit")
        self._began = time.monotonic()
        self.attempts = 0
        self.last = {"exitCode": "0", "status": "", "duration": "0", "message": ""}

    def after(self, phase: str, exit_code: str, message: str, seconds: float) -> tuple[str, float]:
        """Why there is no further attempt after one that failed, or else nothing and the pause before it in seconds."""
        self.attempts += 1
        self.last = {"exitCode": exit_code, "status": phase, "duration": str(int(seconds)), "message": message}
        return self._refusal(phase) or self._pause()

    def _refusal(self, phase: str) -> tuple[str, float] | None:
        expression = self._strategy.expression
        policy = self._strategy.retry_policy or ("Always" if expression else "OnFailure")
        if policy == ("OnError" if phase == "Failed" else "OnFailure"):
            return f"retryPolicy {policy}", 0.0
        if self._limit is not None and self.attempts > self._limit:
            return "No more retries left", 0.0
        scope = {f"lastRetry.{name}": value for name, value in self.last.items()}
        if expression and expressions.parse(expression).evaluate(scope) is not True:
            return "retryStrategy.expression evaluated to false", 0.0
        return None

    def _pause(self) -> tuple[str, float]:
        backoff = self._strategy.backoff
        if backoff is None:
            return "", 0.0
        delay = duration(backoff.duration) * whole(backoff.factor, "backoff.factor") ** (self.attempts - 1)
        if backoff.cap:
            delay = min(delay, duration(backoff.cap))
        if backoff.max_duration and time.monotonic() - self._began + delay > duration(backoff.max_duration):
            return "Backoff would exceed max duration limit", 0.0
        return "", delay


def whole(text: str, what: str) -> int:
    """A whole number that a run's values have made.

    Raises:
      EmbeddedError: It is none.
    """
    try:
        return int(text)
    except ValueError:
        raise EmbeddedError(f"{what} is {text!r}, not a whole number") from None


def duration(text: str) -> float:
    """Seconds of a duration as Argo writes it: 1h30m, or a number of seconds.

    Raises:
      EmbeddedError: It is none.
    """
    try:
        return float(text) if text.isdecimal() else durations.seconds(text)
    except ValueError as error:
        raise EmbeddedError(str(error)) from None
