"""Ends every process of a supervisor that died without ending them itself.

Run as a script by the supervisor, with a pipe as stdin that only the supervisor holds open: lines `+SESSION` and
`-SESSION` say what lives; the end of the pipe means that the supervisor is gone. Then everything in those sessions is
killed, and everything whose environment carries the supervisor's mark, so that a grandchild with a session of its own
goes too. Deliberately imports the standard library only and starts in milliseconds. It does nothing while the
supervisor lives.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

ROUNDS = 200


def doomed(sessions: set[int], mark: bytes) -> list[int]:
    """The processes that belong to a session, or carry the mark."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs more than the rest of the scan
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if os.getsid(int(entry)) in sessions or mark in Path(f"/proc/{entry}/environ").read_bytes():
                state = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()[0]
                if state not in (b"Z", b"X"):
                    found.append(int(entry))
    return found


def main() -> None:
    """Wait for the end of stdin, then kill until nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark = sys.argv[1].encode()
    sessions: set[int] = set()
    for line in sys.stdin:
        (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
    for _ in range(ROUNDS):  # a process may fork between the scan and its death
        left = doomed(sessions, mark)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
