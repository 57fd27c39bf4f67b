"""Stopping in the moment in which an allocation's turn comes, which no request over HTTP could be timed for."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.nomad.allocation import Allocation
from mlops.engines.embedded.nomad.jobspec import parse
from mlops.engines.embedded.scheduler import Resources, Scheduler

JOB = """
job "a" {
  type = "batch"
  parameterized {}
  group "g" {
    reschedule { attempts = 0 }
    task "t" {
      driver = "exec"
      config { command = "true" }
      resources { cpu = 1000 }
    }
  }
}
"""


def test_what_was_stopped_as_its_turn_came_starts_nothing(tmp_path: Path) -> None:
    started: list[Any] = []

    async def start(command: Any) -> None:
        started.append(command)
        raise OSError

    async def code() -> dict[str, str]:
        return {}

    async def stopped() -> Allocation:
        scheduler = Scheduler(Resources(1000, 1000))
        machine = SimpleNamespace(
            state=tmp_path, scheduler=scheduler, processes=SimpleNamespace(start=start), variables={}, code=code,
            environment=lambda *_: {},
        )  # fmt: skip
        job, _ = parse(JOB, {})
        allocation = Allocation(
            cast("Machine", machine), job, job.group[0], 0, alloc_id="x", run_id="a/1", meta={}, changed=lambda: None
        )
        async with scheduler.granted(Resources(1000, 1000)):
            running = asyncio.ensure_future(allocation.run())
            async with asyncio.timeout(60):
                while not scheduler._queue:  # noqa: ASYNC110 - the queue tells nobody
                    await asyncio.sleep(0)
        allocation.stop()  # its turn has come, but it has not heard of it yet
        await running
        assert scheduler._free == scheduler.capacity
        return allocation

    allocation = asyncio.run(stopped())
    assert started == []
    assert (allocation.desired, allocation.terminal, allocation.status()[0]) == ("stop", True, "complete")
