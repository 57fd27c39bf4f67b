"""What the command makes of runs on the embedded engine, which answers as Nomad does."""

import time
from pathlib import Path

from mlops.engines import base
from mlops.engines.nomad import NomadEngine
from tests.embedded.conftest import Engine, eventually, job, task


def test_a_program_that_cannot_be_started_is_told_by_its_name(engine: Engine) -> None:
    engine.register(job("missing", task("main", "")).replace('"sh"', '"no-such-program"'))
    run = engine.dispatch("missing")
    engine.finished(run)
    command = NomadEngine(engine.platform.nomad_address)
    found = command.status(run).failed_step
    assert found
    assert "no-such-program" in base.reason(command, *found)


def test_the_list_and_the_run_itself_agree_through_a_stop(engine: Engine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    main = task("main", "exec sleep 600")
    engine.register(job("stopped", main, task("clear", f"until [ -e {go} ]; do sleep 0.05; done", hook="poststop")))
    run = engine.dispatch("stopped")
    command = NomadEngine(engine.platform.nomad_address)

    def step(name: str) -> str:
        return next((s.state for e in command.status(run).executions for s in e.steps if s.name == name), "")

    eventually(lambda: step("main") == "running", "the start")
    before = command.status(run).created
    # Its stop is told by another second than its dispatch.
    eventually(lambda: time.time() >= int(before) + 1, "the next second")
    command.stop(run)
    eventually(lambda: step("clear") == "running", "the clearing up")

    def seen() -> tuple[str, str]:
        (listed,) = [one for one in command.runs() if one.id == run]
        shown = command.status(run)
        assert listed.created == shown.created == before
        return listed.status, shown.status

    assert seen() == ("running", "running")
    go.touch()
    engine.finished(run)
    assert seen() == ("stopped", "stopped")
