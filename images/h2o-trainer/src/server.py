"""One H2O server for one step: on loopback, on a port of its own, and gone when the step is.

Owns: starting, connecting to and ending the JVM, and keeping its output. Deliberately not: what is trained on it.
"""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from errors import InputError, TrainingError

JAVA_HOME = Path(__file__).parent / "loopback"
SMALL = 4_000_000
"""Values to train on up to which H2O's server is over before Java's second compiler pays."""
MEMORY = re.compile(r"([1-9]\d{0,5})([mg])", re.IGNORECASE)


def parse_memory(text: str) -> int:
    """Turn `512m` or `2g` into bytes.

    Raises:
      InputError: It is neither, or less than H2O starts with.
    """
    match = MEMORY.fullmatch(text)
    size = int(match[1]) << (30 if match[2].lower() == "g" else 20) if match else 0
    if size < 128 << 20:
        raise InputError(f"--memory={text!r}: must be like 512m or 2g, and at least 128m; nothing was trained")
    return size


@contextlib.contextmanager
def running(nthreads: int, memory: int, values: int, scratch: Path, log: Path) -> Iterator[str]:
    """Run an H2O server, connected to, for as long as the block lasts; its output ends up in `log`.

    Args:
      nthreads: Of H2O's work.
      memory: Its heap, in bytes.
      values: Rows times columns that it trains on.
      scratch: Folder for what it leaves.
      log: File.

    Raises:
      TrainingError: It did not start.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["H2O_JAVA_HOME"] = str(JAVA_HOME)
    if shutil.which("java") is None:
        raise TrainingError("no `java` on PATH; H2O runs on a Java 17 runtime: install openjdk-17-jre-headless")
    tempfile.tempdir = str(scratch)  # H2O's client makes its own folders, and would leave them in /tmp
    import h2o
    from h2o.backend import H2OLocalServer
    from h2o.exceptions import H2OConnectionError, H2OServerError, H2OStartupError
    from h2o.utils.progressbar import ProgressBar

    # The client waits for each job by way of a progress bar: hidden, it would still be drawn to its end for 0.3 s.
    ProgressBar.MIN_PROGRESS_CHECK_INTERVAL, ProgressBar.FINISH_DELAY = 0.05, 0.01
    # XGBoost's native library would be unpacked for nothing; what the JVM unpacks otherwise goes where it is removed.
    jvm = [f"-Djava.io.tmpdir={scratch}", "-Dsys.ai.h2o.ext.core.toggle.XGBoost=False"]
    if values <= SMALL:
        jvm.append("-XX:TieredStopAtLevel=1")
    server = None
    try:
        # What H2O's client prints (the release's age, a farewell) is for its log, not for people.
        with log.open("a") as chatter, contextlib.redirect_stdout(chatter), contextlib.redirect_stderr(chatter):
            # The server itself looks for a free pair of ports from here on: trials side by side share none.
            server = H2OLocalServer.start(
                port="54321+",
                nthreads=nthreads,
                max_mem_size=memory,
                jvm_custom_args=jvm,
                enable_assertions=False,
                bind_to_localhost=True,
                verbose=False,
            )
            h2o.connect(server=server, verbose=False)
        h2o.no_progress()
        yield f"{server.ip}:{server.port}"
    except (H2OStartupError, H2OConnectionError, H2OServerError) as error:
        raise TrainingError(f"H2O did not run: {error}; its output is in {log}") from None
    finally:
        if connection := h2o.connection():
            connection.close()  # or it would be tried, and told, when Python ends
        if server:
            server.shutdown()
        for output in scratch.rglob("h2o_*_started_from_python.*"):
            with log.open("ab") as file:
                file.write(output.read_bytes())
