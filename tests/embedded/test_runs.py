"""What a dispatched job does: the order of its tasks, their states and events, as on Nomad."""

import os
import re
import signal
from pathlib import Path

import pytest
import requests

from mlops.engines.embedded.platform import PlatformError
from mlops.engines.embedded.scheduler import machine
from tests.embedded.conftest import Engine, alive, events, eventually, job, task

ENDED = ["Received", "Task Setup", "Started", "Terminated"]


def test_tasks_run_in_nomads_order(engine: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    allocation = engine.run(
        job(
            "order",
            task("after", f"echo after >> {trace}", hook="poststop"),
            task("main", f"echo main >> {trace}", more="leader = true"),
            task("before", f"sleep 0.3; echo before >> {trace}", hook="prestart"),
        )
    )
    assert trace.read_text().split() == ["before", "main", "after"]
    assert allocation["ClientStatus"] == "complete"
    assert {name: events(allocation, name) for name in ("before", "main", "after")} == dict.fromkeys(
        ("before", "main", "after"), ENDED
    )
    assert re.fullmatch(r"order/dispatch-\d+-[0-9a-f]{8}", allocation["JobID"])
    assert allocation["Name"] == f"{allocation['JobID']}.work[0]"
    child = engine.get(f"/v1/job/{allocation['JobID']}")
    assert (child["ParentID"], child["Status"], child["Stop"]) == ("order", "dead", False)


def test_main_and_poststop_after_a_failed_prestart(engine: Engine) -> None:
    allocation = engine.run(
        job(
            "early",
            task("before", "exit 3", hook="prestart"),
            task("main", "echo ran", more="leader = true"),
            task("after", "echo tidy", hook="poststop"),
        )
    )
    assert allocation["ClientStatus"] == "failed"
    assert events(allocation, "before") == [*ENDED, "Not Restarting"]
    assert allocation["TaskStates"]["before"]["Events"][3]["ExitCode"] == 3
    assert events(allocation, "main") == ["Received", "Sibling Task Failed", "Killing"]
    assert allocation["TaskStates"]["main"]["Failed"] is False
    assert engine.log(allocation, "after") == "tidy\n"


def test_poststop_after_a_failed_main(engine: Engine) -> None:
    allocation = engine.run(job("late", task("main", "exit 1"), task("after", "echo tidy", hook="poststop")))
    assert allocation["ClientStatus"] == "failed"
    assert engine.log(allocation, "after") == "tidy\n"


def test_the_leaders_end_ends_the_others(engine: Engine) -> None:
    allocation = engine.run(
        job("leader", task("lead", "sleep 0.3", more="leader = true"), task("other", "exec sleep 1000"))
    )
    assert allocation["ClientStatus"] == "complete"
    assert events(allocation, "other") == [
        "Received",
        "Task Setup",
        "Started",
        "Leader Task Dead",
        "Killing",
        "Terminated",
        "Killed",
    ]


def test_a_failed_task_starts_again_under_the_same_allocation(engine: Engine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f"echo $NOMAD_ALLOC_ID >> {seen}; test $(wc -l < {seen}) = 3"
    allocation = engine.run(
        job("again", task("main", script), restart='attempts = 2\ninterval = "1h"\ndelay = "10ms"\nmode = "fail"')
    )
    assert allocation["ClientStatus"] == "complete"
    assert set(seen.read_text().split()) == {allocation["ID"]}
    assert allocation["TaskStates"]["main"]["Restarts"] == 2
    again = ["Terminated", "Restarting", "Started"]
    assert events(allocation, "main") == ["Received", "Task Setup", "Started", *again, *again, "Terminated"]


def test_restarts_end(engine: Engine) -> None:
    allocation = engine.run(
        job("enough", task("main", "exit 7"), restart='attempts = 1\ninterval = "1h"\ndelay = "10ms"\nmode = "fail"')
    )
    state = allocation["TaskStates"]["main"]
    assert (state["Failed"], state["Restarts"]) == (True, 1)
    assert state["Events"][-1]["Type"] == "Not Restarting"
    assert state["Events"][-1]["DisplayMessage"] == 'Exceeded allowed attempts 1 in interval 1h0m0s and mode is "fail"'


def test_a_program_that_is_missing_fails_at_once(engine: Engine) -> None:
    source = job("missing", task("main", ""), restart='attempts = 3\ndelay = "1h"').replace('"sh"', '"no-such-program"')
    allocation = engine.run(source)
    assert events(allocation, "main") == ["Received", "Task Setup", "Driver Failure", "Not Restarting"]
    assert "no-such-program" in allocation["TaskStates"]["main"]["Events"][2]["DisplayMessage"]


def test_sigkill_of_a_task_is_a_failure_that_restarts(engine: Engine, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    source = job(
        "shot",
        task("main", f"echo $$ >> {pids}; test $(wc -l < {pids}) = 2 || sleep 1000"),
        restart='attempts = 1\ndelay = "10ms"',
    )
    run = engine.dispatch(engine.register(source))
    pid = int(eventually(lambda: pids.exists() and pids.read_text(), "the task's start"))
    os.kill(pid, signal.SIGKILL)
    (allocation,) = engine.finished(run)
    assert allocation["ClientStatus"] == "complete"
    terminated = allocation["TaskStates"]["main"]["Events"][3]
    assert (terminated["Type"], terminated["ExitCode"], terminated["Signal"]) == ("Terminated", 137, 9)


def test_grandchildren_end_with_their_task(engine: Engine, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        f"sleep 1000 & echo $! >> {pids}; setsid sh -c 'echo $$ >> {pids}; sleep 1000' & while [ $(wc -l < {pids}) -lt"
        " 2 ]; do sleep 0.05; done"
    )
    engine.run(job("family", task("main", script)))
    children = [int(pid) for pid in pids.read_text().split()]
    assert len(children) == 2
    eventually(lambda: not any(map(alive, children)), "the end of the task's children")


def test_stop_sends_the_signal_and_runs_poststop(engine: Engine) -> None:
    script = "trap 'echo asked; exit 0' USR1; echo up; while :; do sleep 0.05; done"
    source = job(
        "stop",
        task("main", script, more='kill_signal = "SIGUSR1"\nkill_timeout = "20s"'),
        task("after", "echo tidy", hook="poststop"),
    )
    run = engine.dispatch(engine.register(source))
    eventually(
        lambda: (
            engine.allocations(run)[0]["TaskStates"]["main"]["State"] == "running"
            and engine.log(engine.allocations(run)[0], "main")
        ),
        "start",
    )
    assert requests.delete(engine.url(f"/v1/job/{run}"), timeout=30).ok
    (allocation,) = engine.finished(run)
    assert engine.log(allocation, "main") == "up\nasked\n"
    assert engine.log(allocation, "after") == "tidy\n"
    assert events(allocation, "main") == ["Received", "Task Setup", "Started", "Killing", "Terminated", "Killed"]
    assert (allocation["DesiredStatus"], allocation["ClientStatus"], engine.get(f"/v1/job/{run}")["Stop"]) == (
        "stop",
        "complete",
        True,
    )


def test_stop_kills_what_does_not_listen(engine: Engine) -> None:
    source = job(
        "deaf", task("main", "trap '' INT; echo up; sleep 1000 & wait; sleep 1000", more='kill_timeout = "100ms"')
    )
    run = engine.dispatch(engine.register(source))
    eventually(
        lambda: (
            engine.allocations(run)[0]["TaskStates"]["main"]["State"] == "running"
            and engine.log(engine.allocations(run)[0], "main")
        ),
        "start",
    )
    requests.delete(engine.url(f"/v1/job/{run}"), timeout=30)
    (allocation,) = engine.finished(run)
    assert allocation["TaskStates"]["main"]["Events"][-2]["Signal"] == 9


def test_stop_between_restarts_and_before_the_start(engine: Engine) -> None:
    full = f"resources {{\n cpu = {machine().cpu}\n memory = 10\n }}"
    waiting = engine.dispatch(
        engine.register(job("patient", task("main", "exit 1", more=full), restart='attempts = 1\ndelay = "1h"'))
    )
    eventually(lambda: "Restarting" in events(engine.allocations(waiting)[0], "main"), "the wait for the next attempt")
    queued = engine.dispatch("patient")
    for run in (queued, waiting):
        requests.delete(engine.url(f"/v1/job/{run}"), timeout=30)
        (allocation,) = engine.finished(run)
        assert allocation["ClientStatus"] == "complete"
    assert "Started" not in events(engine.allocations(queued)[0], "main")


def test_runs_share_the_machine_by_what_they_ask_for(engine: Engine, tmp_path: Path) -> None:
    cores = machine().cpu // 1000
    # Each says how many of them live while it lives.
    script = (
        f"mkdir -p {tmp_path}/on; touch {tmp_path}/on/$$; for i in 1 2 3 4 5; do ls {tmp_path}/on | wc -l; sleep 0.05;"
        f" done; rm {tmp_path}/on/$$"
    )
    core = "resources {\n cpu = 1000\n memory = 10\n }"
    # By Nomad's rule the stages of one allocation do not add up.
    source = job("share", task("main", script, more=core), task("after", "true", hook="poststop", more=core))
    runs = [engine.dispatch(engine.register(source)) for _ in range(3 * cores)]
    most = max(int(number) for run in runs for number in engine.log(engine.finished(run)[0], "main").split())
    assert most == cores


def test_what_can_never_start_is_refused(engine: Engine) -> None:
    with pytest.raises(PlatformError, match=r'group "work" asks for 9000000 MHz .* and this machine has'):
        engine.register(job("huge", task("main", "true", more="resources {\n cpu = 9000000\n }")))


def test_count_makes_allocations_of_their_own(engine: Engine) -> None:
    run = engine.dispatch(
        engine.register(
            job("two", task("main", "echo $NOMAD_ALLOC_INDEX $NOMAD_ALLOC_NAME $NOMAD_ALLOC_ID"), group="count = 2")
        )
    )
    allocations = engine.finished(run)
    assert len({allocation["ID"] for allocation in allocations}) == 2
    said = sorted(engine.log(allocation, "main").strip() for allocation in allocations)
    ids = {allocation["Name"]: allocation["ID"] for allocation in allocations}
    assert said == [f"{i} {run}.work[{i}] {ids[f'{run}.work[{i}]']}" for i in (0, 1)]
    summary = engine.get("/v1/jobs", prefix=run)[0]["JobSummary"]["Summary"]["work"]
    assert summary["Complete"] == 2


def test_a_small_tasks_memory_is_its_own(engine: Engine) -> None:
    """Not the supervisor's, which a plain fork would begin with."""
    usage = engine.run(job("small", task("main", "true")))["TaskUsage"]["main"]
    assert 0 < usage["PeakMemoryBytes"] < 30_000_000


def test_usage_is_recorded(engine: Engine) -> None:
    script = "python3 -c 'x = bytearray(200_000_000); x[::4096] = b\"1\" * len(x[::4096]); sum(range(3_000_000))'"
    usage = engine.run(job("usage", task("main", script)))["TaskUsage"]["main"]
    assert 200_000_000 < usage["PeakMemoryBytes"] < 600_000_000
    assert usage["CpuSeconds"] > 0
    assert usage["WallSeconds"] > 0


def test_a_log_is_followed_to_its_end(engine: Engine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = engine.dispatch(
        engine.register(job("talk", task("main", f"echo one; while [ ! -e {go} ]; do sleep 0.05; done; echo two")))
    )
    allocation = engine.allocations(run)[0]["ID"]
    url = engine.url(f"/v1/client/fs/logs/{allocation}")
    with requests.get(
        url, params={"task": "main", "type": "stdout", "plain": "true", "follow": "true"}, stream=True, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b"one"
        go.touch()
        assert list(lines) == [b"two"]


def test_purge_forgets_a_run_and_its_files(engine: Engine) -> None:
    allocation = engine.run(job("forget", task("main", "echo x")))
    folder = engine.state / "allocs" / allocation["ID"]
    assert folder.exists()
    requests.delete(engine.url(f"/v1/job/{allocation['JobID']}"), params={"purge": "true"}, timeout=30)
    assert not folder.exists()
    assert requests.get(engine.url(f"/v1/job/{allocation['JobID']}"), timeout=30).status_code == 404


def test_changes_are_waited_for_without_polling(engine: Engine) -> None:
    run = engine.dispatch(engine.register(job("watch", task("main", "sleep 0.2"))))
    index, statuses = "0", []
    while not statuses or statuses[-1] != "complete":
        answer = requests.get(
            engine.url(f"/v1/job/{run}/allocations"), params={"index": index, "wait": "30s"}, timeout=60
        )
        assert int(answer.headers["X-Nomad-Index"]) > int(index)
        index = answer.headers["X-Nomad-Index"]
        statuses.append(answer.json()[0]["ClientStatus"])
    assert "running" in statuses
