"""Becomes a task's process; run as a script by `tasks`, in the task's environment and folder.

It forks once and ends: its child is handed to the supervisor (the subreaper) as a process that came from a small one.
A task's recorded peak memory is then its own, where a fork of the supervisor would begin with the supervisor's.
Deliberately imports as little as it can.

Arguments: the file descriptor of the report, the supervisor's process id, the program's path, then argv. The report
gets the process id, and an error number if the program cannot be started; its end says that it was.
"""

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Hand over and start."""
    report, supervisor, program, *argv = sys.argv[1:]
    launcher = os.getpid()
    if os.fork():
        os._exit(0)
    os.setsid()
    while os.getppid() == launcher:
        time.sleep(0.0002)
    # Only now: the signal is for the death of the parent that one has, and that was about to change.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(supervisor):
        os._exit(1)
    # Python ignores SIGPIPE, and a shell's background job SIGINT and SIGQUIT; a program would inherit that.
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(int(report), False)
    os.write(int(report), f"{os.getpid()}\n".encode())
    try:
        os.execv(program, argv)  # noqa: S606 - there is no shell on purpose
    except OSError as error:
        os.write(int(report), f"{error.errno}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main()
