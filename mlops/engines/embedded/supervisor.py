"""The daemon of one state folder: bucket, feed, and the engines, which run as long as it does and no longer.

Owns: the order of starting and ending, the lock that makes it the only one, what it tells who started it.
Deliberately not: anything about jobs. Started by `platform.up`; a person ends it by `mlops down`, or by SIGTERM.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aiohttp import web

from mlops.engines.embedded import api, argo, loopback, platform, private
from mlops.engines.embedded.bucket import Bucket, UnconfinedError
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.images import Images
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.nomad.api import NomadApi
from mlops.engines.embedded.nomad.jobs import Jobs
from mlops.engines.embedded.scheduler import Scheduler, machine
from mlops.engines.embedded.state import Store
from mlops.engines.embedded.tasks import Processes

_log = logging.getLogger("supervisor")
_END_SECONDS = 3.0

Say = Callable[[str], None]


class Supervisor:
    """Everything that one state folder runs."""

    def __init__(self, state: Path, checkout: Path, data_file: Path | None) -> None:
        self._state = state
        self._checkout = checkout
        self._data_file = data_file
        self._runners: list[web.AppRunner] = []
        self._guard = loopback.guard(loopback.Peers())

    async def serve(self, say: Say, notice: Say, ready: Callable[[], None]) -> None:
        """Start everything, and end everything when a signal asks for it."""
        end = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end.set)
        processes = Processes()
        bucket = Bucket(processes, self._state)
        jobs: Jobs | None = None
        workflows: argo.Workflows | None = None
        store: Store | None = None
        try:
            say("opening the state folder")
            store = Store(self._state / "state.db")
            say("starting bucket and feed")
            feed = asyncio.ensure_future(self._feed(self._data_file))
            await bucket.start()
            if bucket.notice:
                notice(bucket.notice)
            given = {"STORAGE_EMULATOR_HOST": bucket.address}
            feed_url, ca_file, credentials = await feed
            if ca_file:
                given["NODE_EXTRA_CA_CERTS"] = ca_file
            here = Machine(
                self._state, self._checkout, processes, Scheduler(machine()), Images(self._checkout), given, credentials
            )
            jobs, workflows = Jobs(here, store), argo.Workflows(here, store)
            app = web.Application(middlewares=[api.errors])
            NomadApi(here, jobs).add_to(app)
            app.add_subapp("/api/v1/", argo.routes(workflows))
            port = await self._listen(app, None)
            platform.write(
                self._state,
                platform.Platform(
                    pid=os.getpid(),
                    nomad_address=f"http://127.0.0.1:{port}",
                    storage_address=bucket.address,
                    feed_url=feed_url,
                    ca_file=ca_file,
                    checkout=str(self._checkout),
                ),
            )
            ready()
            _log.info("ready on port %d", port)
            await end.wait()
            _log.info("ending")
        finally:
            for engine in filter(None, (jobs, workflows)):
                with contextlib.suppress(EmbeddedError):  # a full disk must not keep processes alive
                    await engine.close()
            await processes.close(_END_SECONDS)
            bucket.close()
            for runner in self._runners:
                await runner.cleanup()
            if store is not None:
                store.close()
            platform.forget(self._state)

    async def _feed(self, data_file: Path | None) -> tuple[str, str, dict[str, str]]:
        if data_file is None:
            return "", "", {}
        from mlops.feed import FeedError, make_app, make_tls

        client_id, client_secret = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        try:
            app = await asyncio.to_thread(make_app, data_file, client_id, client_secret)
        except FeedError as error:
            raise EmbeddedError(f"the feed does not start: {error}") from error
        context, authority = make_tls(["localhost", "127.0.0.1"])
        ca_file = self._state / "feed-ca.pem"
        with private.opened(ca_file, "wb") as file:
            file.write(authority)
        port = await self._listen(app, context)
        return (
            f"https://localhost:{port}",
            str(ca_file),
            {"salesforce_client_id": client_id, "salesforce_client_secret": client_secret},
        )

    async def _listen(self, app: web.Application, context: ssl.SSLContext | None) -> int:
        app.middlewares.insert(0, self._guard)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return runner.addresses[0][1]


def main() -> None:
    """Run as the daemon; `platform.up` gives the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--report", type=int, required=True)
    parser.add_argument("--data-file", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    report: int | None = arguments.report

    def tell(kind: str, text: str = "") -> None:
        with contextlib.suppress(OSError):  # who started us may have gone
            if report is not None:
                os.write(report, (json.dumps({kind: text}) + "\n").encode())

    def ready() -> None:
        nonlocal report
        tell("ready")
        if report is not None:
            os.close(report)
            report = None

    try:
        with private.locked(arguments.state / "supervisor.lock", wait=False):
            supervisor = Supervisor(arguments.state, arguments.checkout, arguments.data_file)
            asyncio.run(supervisor.serve(partial(tell, "progress"), partial(tell, "notice"), ready))
    except BlockingIOError:
        tell("error", f"another supervisor holds {arguments.state}")
        sys.exit(1)
    except (EmbeddedError, OSError) as error:
        _log.exception("cannot start")
        tell("refused" if isinstance(error, UnconfinedError | private.UnsafeError) else "error", str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
