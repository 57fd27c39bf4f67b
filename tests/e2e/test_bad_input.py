"""Bad input gets one clear line and exit code 2, and leaves nothing behind."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Mlops

RUN = ("run", "sales-close-prediction")
VERSION = ("-p", "model_version=1")


@pytest.fixture(scope="module")
def quiet_platform(platform: Mlops) -> Iterator[Mlops]:
    """The platform, on which nothing may have been started when the tests that use it are through."""
    before = [platform.json(*what) for what in (("runs", "list", "-n", "10000"), ("models", "list"))]
    yield platform
    assert before == [platform.json(*what) for what in (("runs", "list", "-n", "10000"), ("models", "list"))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "no-such-pipeline"], "no pipeline"),
        ([*RUN], "model_version"),
        ([*RUN, *VERSION, "-p", "epoch=3"], "epochs"),
        ([*RUN, *VERSION, "-p", "epochs"], "epochs"),
        ([*RUN, *VERSION, "-p", "epochs=0"], "epochs"),
        ([*RUN, *VERSION, "-p", "epochs=many"], "epochs"),
        ([*RUN, *VERSION, "-p", "learning_rate=nan"], "learning_rate"),
        ([*RUN, "-p", "model_version="], "model_version"),
        ([*RUN, "-p", "model_version=../../etc/passwd"], "model_version"),
        ([*RUN, "-p", "model_version=$(reboot)"], "model_version"),
        ([*RUN, "-p", "model_version=1\n2"], "model_version"),
        ([*RUN, *VERSION, "-p", "save_path=../../etc/passwd"], "save_path"),
        ([*RUN, *VERSION, "-p", "data_path=../../etc/passwd"], "data_path"),
        ([*RUN, *VERSION, "-p", "data_path=/etc/passwd"], "data_path"),
        ([*RUN, *VERSION, "-p", "prediction_path=a\nb"], "prediction_path"),
        ([*RUN, *VERSION, "-p", "prediction_path="], "prediction_path"),
        ([*RUN, *VERSION, "-p", "data_url=file:///etc/passwd"], "data_url"),
        ([*RUN, *VERSION, "-p", "gcp_bucket_path=/models"], "gcp_bucket_path"),
        ([*RUN, "--versions", "5..1"], "--versions"),
        ([*RUN, "--versions", "1..2", *VERSION], "--versions"),
        ([*RUN, *VERSION, "--stack", "nowhere"], "nowhere"),
        (["models", "show", "no-such-version"], "no-such-version"),
        (["models", "verify", "../../etc"], "'../..'"),
        (["models", "promote", "sales-close-prediction_v1_x", "../up"], "../up"),
        (["models", "predict", "no-such-version", "no-such-file.csv"], "no-such"),
        (["runs", "show", "no-such-run"], "no-such-run"),
        (["runs", "stop", "no-such-run"], "no-such-run"),
    ],
)
def test_one_line_and_exit_code_two(quiet_platform: Mlops, arguments: list[str], said: str) -> None:
    done = quiet_platform(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_without_a_platform_the_command_says_how_to_start_one(tmp_path: Path) -> None:
    done = Mlops(tmp_path / "state")("models", "list")
    assert done.returncode == 2
    assert "mlops up" in done.stderr
    assert not (tmp_path / "state").exists()


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
