"""Bad input gets one clear line and exit code 2, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Mlops

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
        (["runs", "--json", "list"], "mlops runs list --json"),
        (["no-such-command"], "see mlops --help"),
        (["runs", "show"], "Missing argument 'RUN'; see mlops runs show --help"),
        ([*RUN, "--bogus"], "No such option: --bogus"),
        ([*RUN, "--runs", "x"], "see mlops run --help"),
        (["runs", "list", "--limit", "0"], "greater than or equal to 1"),
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
