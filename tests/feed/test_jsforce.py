"""The real jsforce against the feed: a pipeline reads the whole data set, whatever happens to its token on the way."""

import csv
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.feed.conftest import CARAVAN, CLIENT_ID, CLIENT_SECRET, RunningFeed

IMAGE = CARAVAN.parents[2] / "images/tensornode"


@pytest.fixture
def read(tmp_path: Path):
    if not (IMAGE / "node_modules/jsforce").is_dir():
        pytest.fail("jsforce is not installed: run `make setup`")

    def run(feed: RunningFeed, **environment: str) -> tuple[Counter[tuple[str, ...]], str, int]:
        (tmp_path / "ca.pem").write_bytes(feed.ca)
        done = subprocess.run(
            ["node", str(Path(__file__).with_name("jsforce_client.mjs"))],
            env={
                **os.environ,
                "NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.pem"),
                "JSFORCE_FROM": f"{IMAGE}/package.json",
                "INSTANCE": feed.url,
                "CLIENT_ID": CLIENT_ID,
                "CLIENT_SECRET": CLIENT_SECRET,
                "COLUMNS": ",".join(_paths()),
                "TARGETS": ", ".join(_paths()),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        rows = (json.loads(line) for line in done.stdout.splitlines())
        return Counter(tuple(map(str, row)) for row in rows), done.stderr, done.returncode

    return run


def test_joined_records_are_the_data_set_row_for_row(read, serve):
    with serve() as feed:
        rows, complaints, code = read(feed)
    assert (complaints, code) == ("", 0)
    assert rows == _caravan()


def test_token_that_expires_between_pages_is_renewed_and_no_row_is_lost(read, serve):
    with serve(token_ttl=1, batch_size=2000) as feed:
        rows, complaints, code = read(feed, PAUSE="1500")
    assert code == 0, complaints
    assert "refreshed" in complaints
    assert rows == _caravan()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"CLIENT_SECRET": "wrong"}, "invalid_client: invalid client credentials\n"),
        ({"CLIENT_ID": "wrong"}, "invalid_client_id: client identifier invalid\n"),
    ],
)
def test_wrong_credentials_read_nothing(read, feed, wrong, complaint):
    assert read(feed, **wrong) == (Counter(), complaint, 1)


def _caravan() -> Counter[tuple[str, ...]]:
    with CARAVAN.open(newline="") as file:
        return Counter(map(tuple, list(csv.reader(file))[1:]))


def _paths() -> list[str]:
    with CARAVAN.open(newline="") as file:
        header = next(csv.reader(file))
    return [f"Area__r.{name}__c" for name in header[:43]] + [f"{name}__c" for name in header[43:]]
