"""A roll of servers goes on only while every other server is a healthy voter, and waits for as long as that takes."""

from typing import Any

import pytest

from infra.nomad import roll
from infra.nomad.api import Api, RefusedError


def health(*states: tuple[bool, bool]) -> dict[str, Any]:
    """What autopilot says of servers: whether each is healthy, and votes."""
    return {"Servers": [{"Name": f"eu-{i}.eu", "Healthy": h, "Voter": v} for i, (h, v) in enumerate(states)]}


WELL, ILL, NEW = (True, True), (False, True), (True, False)


@pytest.mark.parametrize(
    ("states", "index", "says"),
    [
        ((WELL, WELL, WELL), 0, None),
        ((WELL, ILL, WELL), 0, "server eu-1 is not healthy"),
        ((WELL, ILL, WELL), 2, "server eu-1 is not healthy"),
        ((WELL, NEW, WELL), 0, "server eu-1 has no vote yet"),
        ((WELL, WELL), 0, "server eu-2 has not joined"),
        ((), 0, "server eu-1 has not joined"),
    ],
)
def test_no_server_is_touched_while_another_one_is_missing(states: Any, index: int, says: str | None) -> None:
    assert roll.problem(health(*states), "eu", index, 3) == says


def test_a_server_that_is_ill_itself_may_be_repaired() -> None:
    assert roll.problem(health(WELL, ILL, WELL), "eu", 1, 3) is None


class Nomad(Api):
    """A Nomad whose answers are told beforehand; the last one stays."""

    def __call__(self, method: str, path: str, accepted: Any = (200,)) -> Any:
        """The next answer."""
        assert (method, path, tuple(accepted)) == ("GET", "operator/autopilot/health", (200, 429))
        answer = ANSWERS.pop(0) if len(ANSWERS) > 1 else ANSWERS[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


ANSWERS: list[Any] = []


def wait(*answers: Any, patience: float = 60) -> None:
    ANSWERS[:] = answers
    roll.wait(Nomad("eu", "https://127.0.0.1:1", "", "t"), 0, 3, patience)


def test_it_waits_until_the_others_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll, "_POLL", 0.01)
    wait(
        ConnectionRefusedError("refused"),
        RefusedError("500 No cluster leader"),
        health(WELL, ILL, WELL),
        health(WELL, WELL, WELL),
    )
    assert len(ANSWERS) == 1


def test_it_gives_up_in_one_line_that_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll, "_POLL", 0.01)
    with pytest.raises(RuntimeError) as raised:
        wait(health(WELL, ILL, WELL), patience=0.05)
    assert str(raised.value).startswith(
        "server eu-0 was not touched, since region eu could lose its quorum: server eu-1 is not healthy; repair that"
    )
    assert "\n" not in str(raised.value)
