"""Data that cannot be trained on ends the run with its reason, exit code 2, and leaves nothing behind."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from tests.conftest import CHECKOUT, Mlops

pytestmark = pytest.mark.whole

RUN = ("run", "sales-close-prediction")
VERSION = ("-p", "model_version=1")


class _Bad(http.server.BaseHTTPRequestHandler):
    """Serves data that cannot be trained on, one fault a path."""

    def do_GET(self) -> None:
        header, *rows = (CHECKOUT / ".cache" / "data" / "Caravan.csv").read_text().splitlines()
        names = header.split(",")
        body, kind = {
            "/html": ("<!doctype html><html><body>Sign in</body></html>", "text/html"),
            "/empty": ("", "text/csv"),
            "/header-only": (header + "\n", "text/csv"),
            "/column": ("\n".join(",".join(line.split(",")[1:]) for line in [header, *rows]), "text/csv"),
            "/one-class": ("\n".join([header, *(row for row in rows if row.endswith(",No"))]), "text/csv"),
            "/text": ("\n".join([header, *rows[:50], ",".join(["many"] * (len(names) - 1) + ["No"])]), "text/csv"),
        }.get(self.path, (None, ""))
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.end_headers()
        self.wfile.write((body or "not here").encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture(scope="module")
def bad_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Bad)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/missing", "404"),
        ("/html", "HTML"),
        ("/empty", "empty"),
        ("/header-only", "no rows"),
        ("/column", "MOSTYPE"),
        ("/one-class", "Purchase"),
        ("/text", "MOSTYPE"),
    ],
)
def test_data_that_cannot_be_trained_on_ends_the_run_with_its_reason(
    platform: Mlops, bad_server: str, path: str, said: str
) -> None:
    before = platform.json("models", "list")
    done = platform(*RUN, *VERSION, "-p", f"data_url={bad_server}{path}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert " at " not in done.stderr.replace(" at the ", " ")  # no stack of Node's either
    assert platform.json("models", "list") == before
    assert list((platform.state / "volumes" / "models").iterdir()) == []


def test_a_model_under_the_floor_is_not_stored(platform: Mlops) -> None:
    before = platform.json("models", "list")
    done = platform(*RUN, *VERSION, "-p", "epochs=1", "-p", "min_auc=0.99")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "min_auc" in done.stderr
    assert platform.json("models", "list") == before
