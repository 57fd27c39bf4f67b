"""`mlops data push`: what is stored, under which name, and what is told where it cannot be."""

import hashlib
import json
import os
import re
import resource
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from mlops import data
from mlops.data import DataError, push
from mlops_registry.bucket import Bucket
from mlops_registry.errors import ConflictError, NoBucketError
from tests.conftest import Mlops
from tests.registry.conftest import Emulator


class _Web(BaseHTTPRequestHandler):
    tries: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.tries.append(path)
        busy = path == "/busy.csv" and self.tries.count(path) < 3
        found = path in ("/areas.csv", "/cut.csv", "/busy.csv")
        self.send_response(503 if busy else 200 if found else 404)
        self.send_header("Content-Length", "100" if path == "/cut.csv" else "4")
        self.end_headers()
        self.wfile.write(b"a,b\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web server that is sometimes busy and sometimes hangs up."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(autouse=True)
def at_the_emulator(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator.address)
    monkeypatch.setenv("MLOPS_REGISTRY_DEADLINE", "60")


def files(folder: Path, **contents: str) -> list[str]:
    for name, content in contents.items():
        (folder / f"{name}.csv").write_text(content)
    return [str(folder / f"{name}.csv") for name in contents]


def sha(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def refused(emulator: Emulator, bucket: str, *sources: str, feed: data.Feed | None = None) -> DataError:
    with pytest.raises(DataError) as raised:
        push(sources, bucket, feed=feed)
    assert "\n" not in str(raised.value)
    assert ", so nothing was pushed" in str(raised.value) or FEEDLESS in str(raised.value)
    assert emulator.objects(bucket) == []
    return raised.value


FEEDLESS = "is a file of the embedded platform's feed"


def test_one_file_lies_under_its_digest(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    (source,) = files(tmp_path, areas="a,b\n1,2\n")
    pushed = push([source], bucket)
    digest = sha("a,b\n1,2\n")
    assert pushed.uri == f"gs://{bucket}/raw/sha256/{digest}"
    assert pushed.files == [data.File("areas.csv", 8, digest, f"{pushed.uri}/areas.csv")]
    assert emulator.objects(bucket) == [f"raw/sha256/{digest}/areas.csv"]
    assert (emulator.root / bucket / "raw/sha256" / digest / "areas.csv").read_text() == "a,b\n1,2\n"


def test_several_lie_together_under_the_digest_of_their_sums(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    sources = files(tmp_path, customers="c\n1\n", areas="a\n1\n")
    pushed = push(sources, bucket)
    sums = f"{sha('a;1;'.replace(';', chr(10)))}  areas.csv\n{sha('c;1;'.replace(';', chr(10)))}  customers.csv\n"
    assert pushed.digest == sha(sums)
    folder = f"raw/sha256/{pushed.digest}"
    assert emulator.objects(bucket) == [f"{folder}/{name}" for name in ("SHA256SUMS", "areas.csv", "customers.csv")]
    assert (emulator.root / bucket / folder / "SHA256SUMS").read_text() == sums
    assert push(reversed(sources), bucket).uri == pushed.uri, "the order in which they are named is no part of it"
    files(tmp_path, areas="a\n2\n")
    assert push(sources, bucket).uri != pushed.uri
    assert len(emulator.objects(bucket)) == 6


def test_a_repeat_stores_nothing_anew(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    sources = files(tmp_path, areas="a\n1\n", customers="c\n1\n")
    first = push(sources, bucket)
    stored = {name: (emulator.root / bucket / name).stat().st_mtime_ns for name in emulator.objects(bucket)}
    assert push(sources, bucket) == first
    assert {name: (emulator.root / bucket / name).stat().st_mtime_ns for name in emulator.objects(bucket)} == stored


def test_a_push_that_was_cut_short_is_completed(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    sources = files(tmp_path, areas="a\n1\n", customers="c\n1\n")
    folder = emulator.root / bucket / "raw/sha256" / push(sources, bucket).digest
    (folder / "customers.csv").unlink()
    (folder / "SHA256SUMS").unlink()
    push(sources, bucket)
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "areas.csv", "customers.csv"]


def test_what_is_there_is_never_overwritten(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    (source,) = files(tmp_path, areas="a\n1\n")
    stored, name = Bucket(bucket), f"raw/sha256/{push([source], bucket).digest}/areas.csv"
    stored.replace(name, b"b\n2\n", (stored.read(name) or (b"", 0))[1], {})
    with pytest.raises(ConflictError, match="exists with other bytes and is never overwritten"):
        push([source], bucket)
    assert (stored.read(name) or (b"", 0))[0] == b"b\n2\n"


def test_what_is_stored_is_what_was_hashed(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    (source,) = files(tmp_path, areas="a\n1\n")

    def meanwhile(verb: str, *_: object) -> None:
        if verb == "Storing":
            Path(source).write_text("b\n2\n")

    pushed = push([source], bucket, progress=meanwhile)
    assert Path(source).read_text() == "b\n2\n"
    assert (emulator.root / bucket / "raw/sha256" / pushed.digest / "areas.csv").read_text() == "a\n1\n"


def test_progress_is_told_to_the_last_byte(tmp_path: Path, bucket: str) -> None:
    (source,) = files(tmp_path, big="x" * 3_000_000)
    told: list[tuple[str, str, int, int | None]] = []
    push([source], bucket, progress=lambda *step: told.append(step))
    reading = [done for verb, _, done, _ in told if verb == "Reading"]
    assert reading == sorted(reading)
    assert (len(reading), reading[-1]) == (4, 3_000_000)
    assert told[-1] == ("Storing", "big.csv", 3_000_000, 3_000_000)


def test_an_address_is_read_and_a_busy_server_asked_again(web: str, bucket: str) -> None:
    pushed = push([f"{web}/areas.csv?signature=abc", f"{web}/busy.csv"], bucket)
    assert [(file.name, file.sha256) for file in pushed.files] == [
        ("areas.csv", sha("a,b\n")),
        ("busy.csv", sha("a,b\n")),
    ]
    assert _Web.tries.count("/busy.csv") == 3


def test_an_address_that_does_not_deliver_is_told(web: str, bucket: str, emulator: Emulator) -> None:
    missing = refused(emulator, bucket, f"{web}/none.csv?signature=abc")
    assert str(missing).startswith(f"{web}/none.csv answered HTTP 404")
    assert missing.exit_code == 2
    assert "again" not in str(missing), "a repeat would say the same"
    cut = refused(emulator, bucket, f"{web}/areas.csv", f"{web}/cut.csv?signature=abc")
    assert str(cut).startswith(f"{web}/cut.csv was not delivered whole")
    assert cut.exit_code == 1
    assert "signature" not in f"{missing}{cut}", "a query may be a signature"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.csv", "none.csv is not there"),
        (".", "'' cannot name a file"),
        ("folder", "folder is no file"),
        ("pipe", "pipe is no file"),
        ("empty.csv", "empty.csv is empty"),
        ("with blank.csv", "'with blank.csv' cannot name a file in the bucket"),
        ("SHA256SUMS", "'SHA256SUMS' cannot name a file in the bucket"),
        ("https://example.com/", "'' cannot name a file in the bucket"),
        ("http://[x/a.csv", "http://[x/a.csv is no address"),
        ("https://user:hunter2@example.com/a.csv", "the address of example.com holds credentials"),
        ("salesforce+https://example.com/a.csv", "salesforce+https:// is nothing that a file is read from"),
        ("file:///etc/passwd", "file:// is nothing that a file is read from"),
        ("feed:areas.csv", f"feed:areas.csv {FEEDLESS}"),
    ],
)
def test_what_is_no_file_is_told(
    source: str, message: str, tmp_path: Path, bucket: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty.csv", "with blank.csv", "SHA256SUMS"):
        (tmp_path / name).write_text("x" if name != "empty.csv" else "")
    (good,) = files(tmp_path, good="a\n")
    error = refused(emulator, bucket, good, source)
    assert message in str(error)
    assert "hunter2" not in str(error)
    assert error.exit_code == 2


def test_two_files_of_one_name_are_told(tmp_path: Path, bucket: str, emulator: Emulator) -> None:
    (tmp_path / "other").mkdir()
    sources = files(tmp_path, areas="a\n") + files(tmp_path / "other", areas="b\n")
    assert str(refused(emulator, bucket, *sources)).startswith("two files are named areas.csv")


def test_a_bucket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoBucketError, match=r"^bucket no-such-bucket does not exist"):
        push(files(tmp_path, areas="a\n"), "no-such-bucket")


def test_without_a_platform_the_command_says_so(tmp_path: Path) -> None:
    done = Mlops(tmp_path / "state")("data", "push", *files(tmp_path, areas="a\n"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"mlops: the embedded platform of stack local is not running, .*\n", done.stderr)


@pytest.mark.whole
def test_the_feeds_files_become_a_refits_data(platform: Mlops, tmp_path: Path) -> None:
    pushed = platform.json("data", "push", "feed:areas.csv", "feed:customers.csv")
    assert re.fullmatch(r"gs://hybrid-mlops-local-data/raw/sha256/[0-9a-f]{64}", pushed["uri"])
    assert [file["uri"] for file in pushed["files"]] == [f"{pushed['uri']}/areas.csv", f"{pushed['uri']}/customers.csv"]
    done = platform("data", "push", "feed:areas.csv", "feed:customers.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == pushed["uri"]
    for file in pushed["files"]:
        stored = platform.state / "bucket" / file["uri"].removeprefix("gs://")
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == file["sha256"]
        assert stored.stat().st_size == file["size"]
    with pytest.raises(DataError, match=r"/data/areas\.csv has no certificate that is trusted here, so nothing was"):
        push([json.loads((platform.state / "platform.json").read_text())["feed_url"] + "/data/areas.csv"], "any")
    gone = platform("data", "push", "feed:none.csv")
    assert gone.returncode == 2
    assert re.fullmatch(r"mlops: https://localhost:\d+/data/none.csv answered HTTP 404, .*\n", gone.stderr)


def test_a_full_temporary_folder_is_told(
    tmp_path: Path, bucket: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = files(tmp_path, areas="a\n" * 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # No file may grow beyond 512 bytes: the kernel refuses the write as it does on a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        error = refused(emulator, bucket, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "TMPDIR" in str(error)
    assert str(tmp_path) in str(error)
    assert error.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["areas.csv"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert "TMPDIR" in str(refused(emulator, bucket, source))
