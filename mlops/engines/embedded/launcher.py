"""Starts the processes of tasks; run as a script by `tasks`, once for all of them.

It is small, and so is what it forks: a task's recorded peak memory is then its own, where a fork of the supervisor
would begin with the supervisor's. It forks twice, and the process between ends, so that the task's is handed to the
supervisor (the subreaper) as a child. Deliberately imports as little as it can, and waits for no task.

A line of stdin is a request: a JSON object with `program`, `argv`, `env`, `niceness`, `cwd`, `stdout` and `stderr`. A
line of stdout answers it, with `pid` when the program runs, or with `error`. The end of stdin ends it.
"""

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; when to end is the supervisor's matter
    for line in sys.stdin.buffer:
        reader, writer = os.pipe()
        if not os.fork():
            between = os.getpid()
            if not os.fork():
                _become(json.loads(line), between, writer)
            os._exit(0)
        os.close(writer)
        os.wait()
        with os.fdopen(reader) as report:  # its end without an error is the program's start, which closes it
            said = report.readlines()
        print(said[-1].strip() if said else '{"error": "it was killed"}', flush=True)


def _become(request: dict[str, Any], parent: int, report: int) -> None:
    """Turn this process into what was asked for."""
    supervisor = int(sys.argv[1])
    os.setsid()
    while os.getppid() == parent:
        time.sleep(0.0002)
    # Only now: the signal is for the death of the parent that one has, and that was about to change.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(1)
    # Python ignores SIGPIPE, and a shell's background job SIGINT and SIGQUIT; a program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.nice(request["niceness"])
    os.write(report, f'{{"pid": {os.getpid()}}}\n'.encode())
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in enumerate(("stdout", "stderr"), 1):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
        os.chdir(request["cwd"])
        os.execve(request["program"], request["argv"], request["env"])  # noqa: S606 - there is no shell on purpose
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
        os.write(report, (json.dumps({"error": reason}) + "\n").encode())
        os._exit(127)


if __name__ == "__main__":
    main()
