"""The bucket as programs use it, and as one would who wants out of it; and copies of its folder."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from google.api_core.exceptions import PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from mlops.engines.embedded import attributes, platform
from tests.embedded.conftest import Engine

NAME = "models"


def client(address: str) -> Any:
    """Google's library for Python."""
    return storage.Client(project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": address})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state folder in it, and a file beside that nobody is to reach."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "victim").write_text("untouched")
    return folder


@pytest.fixture(scope="module")
def engine(home: Path, checkout: Path) -> Iterator[Engine]:
    """A platform with one bucket."""
    here = Engine(home / "state", checkout)
    platform.up(here.state, [NAME, "other"], checkout=checkout, feed=False)
    yield here
    platform.down(here.state)


def send(engine: Engine, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, str]:
    """One request, whose target is sent as it is written."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", urlsplit(engine.platform.storage_address).port or 0, timeout=60
    )
    with contextlib.closing(connection):
        connection.putrequest(method, target, skip_accept_encoding=True)
        content = body.encode() if isinstance(body, str) else body or b""
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(content)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def parts(name: str, key: str = "name") -> tuple[str, str]:
    """A multipart body and its type; the object's name is in its first part."""
    body = f'--b\r\nContent-Type: application/json\r\n\r\n{{"{key}": "{name}"}}\r\n--b\r\n\r\nplanted\r\n--b--\r\n'
    return body, "multipart/related; boundary=b"


OUTSIDE = [
    "../../../victim", "../other/planted", "a/../../../../victim", "./../../victim", "..", "../", ".", "a/./b", "a//b",
    "/victim", "a\0b", "a\nb", "", "a/..", "x" * 300, "x/" * 600,
]  # fmt: skip
MEDIA = f"/upload/storage/v1/b/{NAME}/o?uploadType=media&name="


@pytest.fixture(params=OUTSIDE, ids=lambda name: repr(name)[:30])
def name(request: pytest.FixtureRequest) -> str:
    """A name that leads out of the bucket, or to another object's file."""
    return request.param


def test_no_upload_leaves_the_bucket(engine: Engine, home: Path, name: str) -> None:
    before = _tree(home)
    encoded, said = quote(name, safe=""), json.dumps(name)[1:-1]
    body, kind = parts(said)
    upload = f"/upload/storage/v1/b/{NAME}/o?uploadType="
    if name:  # without one the body's counts
        status, text = send(engine, "POST", f"{upload}multipart&name={encoded}", parts("fine")[0], Content_Type=kind)
        assert status == 400, text
    tried = [
        send(engine, "POST", MEDIA + encoded, "planted", Content_Type="text/plain"),
        send(engine, "POST", f"{upload}multipart", body, Content_Type=kind),
        send(engine, "POST", f"{upload}resumable&name={encoded}", "{}", Content_Type="application/json"),
        send(engine, "POST", f"{upload}resumable", f'{{"name": "{said}"}}', Content_Type="application/json"),
        send(engine, "POST", f"{MEDIA}fine&name={encoded}", "planted"),
        send(engine, "POST", f"{MEDIA}{encoded}&name=fine", "planted"),
    ]
    for status, text in tried:
        assert status == 400, (status, text)
        assert "\n" not in text
    assert _tree(home) == before


def test_no_path_leaves_the_bucket(engine: Engine, home: Path, name: str) -> None:
    before = _tree(home)
    there = client(engine.platform.storage_address).bucket(NAME).blob("there")
    there.upload_from_string("x")
    before = _tree(home)
    encoded = quote(name, safe="")
    paths = [
        ("GET", f"/storage/v1/b/{NAME}/o/{encoded}?alt=media"),
        ("HEAD", f"/storage/v1/b/{NAME}/o/{encoded}"),
        ("DELETE", f"/storage/v1/b/{NAME}/o/{encoded}"),
        ("PATCH", f"/storage/v1/b/{NAME}/o/{encoded}"),
        ("PUT", f"/storage/v1/b/{NAME}/o/{encoded}"),
        ("GET", f"/download/storage/v1/b/{NAME}/o/{encoded}?alt=media"),
        ("POST", f"/storage/v1/b/{NAME}/o/there/rewriteTo/b/{NAME}/o/{encoded}"),
        ("POST", f"/storage/v1/b/{NAME}/o/there/copyTo/b/{NAME}/o/{encoded}"),
        ("POST", f"/storage/v1/b/{NAME}/o/{encoded}/rewriteTo/b/{NAME}/o/copied"),
        ("POST", f"/storage/v1/b/{NAME}/o/{encoded}/compose"),
    ]
    for method, path in paths:
        status, text = send(engine, method, path, "{}", Content_Type="application/json")
        assert status == 400, (method, path, status, text)
    assert _tree(home) == before


@pytest.mark.parametrize(
    "bucket", ["..", ".", "%2e%2e", "..%2f..", "a%2fb", "models%00", "UPPER", "", "bucket.root%2F.."]
)
def test_a_buckets_name_is_a_name(engine: Engine, home: Path, bucket: str) -> None:
    before = _tree(home)
    for method, path in [
        ("GET", f"/storage/v1/b/{bucket}"),
        ("GET", f"/storage/v1/b/{bucket}/o"),
        ("GET", f"/storage/v1/b/{bucket}/o/victim?alt=media"),
        ("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=victim"),
        ("POST", f"/storage/v1/b/{NAME}/o/there/rewriteTo/b/{bucket}/o/victim"),
    ]:
        assert send(engine, method, path, "{}")[0] in (400, 404)
    named = json.dumps({"name": bucket.replace("%2f", "/").replace("%2F", "/").replace("%2e", ".")})
    assert send(engine, "POST", "/storage/v1/b?project=p", named, Content_Type="application/json")[0] == 400
    assert _tree(home) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/_internal/config"),
        ("POST", "/_internal/reseed"),
        ("POST", "/_internal/delete_all"),
        ("GET", "/_internal/healthcheck"),
        ("POST", "/batch/storage/v1"),
        ("PUT", "/upload/resumable/1"),
        ("GET", f"/{NAME}/there"),
        ("PUT", f"/{NAME}/planted"),
        ("POST", f"/{NAME}/planted?uploadType=media&name=../../victim"),
        ("PUT", f"/{NAME}/..%2f..%2fvictim?X-Goog-Algorithm=x"),
        ("DELETE", f"/{NAME}/there"),
        ("GET", f"/{NAME}"),
        ("POST", f"/{NAME}"),
        ("DELETE", f"/storage/v1/b/{NAME}"),
        ("PATCH", f"/storage/v1/b/{NAME}"),
        ("GET", "/storage/v1/b"),
        ("POST", f"/storage/v1/b/{NAME}/notificationConfigs"),
        ("PUT", f"/storage/v1/b/{NAME}/acl/allUsers"),
        ("PUT", f"/storage/v1/b/{NAME}/o/there/acl/allUsers"),
        ("GET", f"/storage/v1/b/{NAME}/o/../../../victim"),
        ("GET", f"/storage/v1/b/{NAME}/o/a/b"),
        ("GET", f"http://127.0.0.1:1/storage/v1/b/{NAME}"),
        ("GET", "//storage/v1/b/models"),
        ("OPTIONS", f"/storage/v1/b/{NAME}"),
        ("TRACE", f"/storage/v1/b/{NAME}"),
    ],
)
def test_what_no_client_needs_is_refused(engine: Engine, home: Path, method: str, path: str) -> None:
    before = _tree(home)
    status, text = send(engine, method, path, '{"externalUrl": "http://evil.example"}', Content_Type="application/json")
    assert status in (400, 403, 404, 405), (status, text)
    assert "\n" not in text
    assert _tree(home) == before


def test_the_name_that_was_checked_is_the_one_that_counts(engine: Engine, home: Path) -> None:
    """Bodies that name something else to whoever reads them in another way."""
    before = _tree(home)
    address = engine.platform.storage_address
    outside = "../../../victim"
    twice = f'{{"Name": "{outside}", "name": "counts", "NAME": "{outside}", "BUCKET": "..", "buc\u212aet": ".."}}'
    start = f"/upload/storage/v1/b/{NAME}/o?uploadType=resumable"
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port or 0, timeout=60)
    connection.request("POST", start, twice.encode(), {"Content-Type": "application/json; charset=UTF-8"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    target = urlsplit(answer.headers["Location"])
    assert f"{target.scheme}://{target.netloc}" == address
    # Nor does a name count that comes with the bytes.
    moved = f"{target.path}?{target.query.replace('name=counts', 'name=' + quote(outside, safe=''))}"
    assert send(engine, "PUT", moved, "bytes")[0] == 200
    first, last = f'{{"NAME": "{outside}", "name": "counts"}}', f'{{"name": "{outside}"}}'
    body = f"--b\r\n\r\n{first}\r\n--b\r\n\r\nbytes\r\n--b\r\n\r\n{last}\r\n--b--"
    upload = f"/upload/storage/v1/b/{NAME}/o?uploadType=multipart"
    assert send(engine, "POST", upload, body, Content_Type='multipart/related; boundary="b"')[0] == 200
    as_resumable = {"X_Goog_Upload_Protocol": "resumable", "Content_Type": "application/json"}
    assert send(engine, "POST", f"/upload/storage/v1/b/{NAME}/o", twice, **as_resumable)[0] == 400
    new = {path for path in _tree(home) ^ before if path[0].parent.name != "other"}
    assert {path.relative_to(home) for path, _ in new} == {Path(f"state/bucket/{NAME}/counts")}


def _tree(folder: Path) -> set[tuple[Path, bytes]]:
    """Every file below a folder that a bucket's request could have made or changed."""
    shown = {"bucket.log", "supervisor.log", "state.db", "state.db-wal", "state.db-shm"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in shown]
    return {(path, path.read_bytes()) for path in files if not path.name.endswith(".bucketMetadata")}


def test_googles_library_does_all_that_it_does_here(engine: Engine, tmp_path: Path) -> None:
    bucket = client(engine.platform.storage_address).bucket(NAME)
    small, large = bucket.blob("python/ü ö/%2e/small.json"), bucket.blob("python/large")
    small.metadata = {"a": "ä".encode().hex()}
    small.upload_from_string('{"a": 1}', if_generation_match=0, checksum="crc32c", content_type="application/json")
    with pytest.raises(PreconditionFailed):
        small.upload_from_string("again", if_generation_match=0)
    content = os.urandom(20 << 20)  # more than it sends in one request
    (tmp_path / "large").write_bytes(content)
    large.upload_from_filename(str(tmp_path / "large"), checksum="crc32c")
    assert large.download_as_bytes(checksum="crc32c") == content
    assert large.download_as_bytes(start=5, end=9) == content[5:10]
    found = bucket.get_blob(small.name)
    assert (found.metadata, found.content_type) == (small.metadata, "application/json")
    assert small.download_as_bytes() == b'{"a": 1}'
    bucket.copy_blob(large, bucket, "python/copy")
    bucket.rename_blob(bucket.blob("python/copy"), "python/moved")
    joined = bucket.blob("python/joined")
    joined.compose([large, small])
    assert joined.download_as_bytes() == content + b'{"a": 1}'
    with bucket.blob("python/written").open("wb", chunk_size=256 << 10) as file:
        file.write(content[: 1 << 20])
    assert {blob.name for blob in bucket.list_blobs(prefix="python/")} == {
        f"python/{name}" for name in ("ü ö/%2e/small.json", "large", "moved", "joined", "written")
    }
    for blob in list(bucket.list_blobs(prefix="python/")):
        blob.delete()
    assert list(bucket.list_blobs(prefix="python/")) == []


def test_node_and_curl_are_answered(engine: Engine, tmp_path: Path) -> None:
    address = engine.platform.storage_address
    script = f"""
        const url = "{address}/upload/storage/v1/b/{NAME}/o?uploadType=media&name=node"
        const put = await fetch(url, {{ method: "POST", body: "from node" }})
        const got = await fetch("{address}/storage/v1/b/{NAME}/o/node?alt=media")
        console.log(put.status, got.status, await got.text())
    """
    node = ["node", "--input-type=module", "--eval", script]
    assert subprocess.run(node, capture_output=True, text=True, check=True).stdout == "200 200 from node\n"
    content = os.urandom(3 << 20)  # so much that curl asks first whether it may send it
    (tmp_path / "sent").write_bytes(content)
    upload = f"{address}/upload/storage/v1/b/{NAME}/o?uploadType=media&name=curl"
    sent = ["curl", "--silent", "--fail", "--data-binary", f"@{tmp_path}/sent", upload]
    subprocess.run(sent, capture_output=True, check=True)
    got = ["curl", "--silent", "--fail", f"{address}/storage/v1/b/{NAME}/o/curl?alt=media"]
    assert subprocess.run(got, capture_output=True, check=True).stdout == content


def test_an_upload_that_breaks_off_leaves_no_object(engine: Engine) -> None:
    port = urlsplit(engine.platform.storage_address).port
    kinds = {"length": "Content-Length: 1000000", "chunked": "Transfer-Encoding: chunked"}
    for name, header in kinds.items():
        with socket.create_connection(("127.0.0.1", port), timeout=60) as broken:
            head = f"POST {MEDIA}broken-{name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{header}\r\n\r\n"
            broken.sendall(head.encode() + b"5\r\nhello\r\n" * 100)
            broken.shutdown(socket.SHUT_WR)
            broken.recv(1)  # its end, or a refusal
    names = [blob.name for blob in client(engine.platform.storage_address).list_blobs(NAME)]
    assert not [name for name in names if name.startswith("broken")]


COPIES = {
    "cp": ["cp", "-r", "{old}", "{new}"],
    "tar": ["sh", "-c", "mkdir {new} && tar -C {old} -cf - . | tar -C {new} -xf -"],
    "cp with everything": ["cp", "-a", "{old}", "{new}"],
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_state_folder_lists_what_the_first_did(
    engine: Engine, checkout: Path, tmp_path: Path, how: str
) -> None:
    bucket = client(engine.platform.storage_address).bucket("other")
    for name, content in {"a/data.json": "{}", "a/b/large": "x" * 100_000, "empty": ""}.items():
        bucket.blob(name).upload_from_string(content)
    shown = {blob.name: (blob.size, blob.md5_hash, blob.crc32c) for blob in bucket.list_blobs()}
    new = tmp_path / "state"
    subprocess.run([word.format(old=engine.state, new=new) for word in COPIES[how]], check=True)
    (new / "platform.json").unlink()
    (new / "bucket" / "torn.bucketMetadata").write_text("")
    copied = Engine(new, checkout)
    try:
        there = client(copied.platform.storage_address).bucket("other")
        assert there.exists()
        assert {blob.name: (blob.size, blob.md5_hash, blob.crc32c) for blob in there.list_blobs()} == shown
        assert there.blob("a/data.json").download_as_bytes(checksum="crc32c") == b"{}"
        assert all(blob.generation > 0 and blob.updated for blob in there.list_blobs())
        with pytest.raises(PreconditionFailed):
            there.blob("empty").upload_from_string("another", if_generation_match=0)
    finally:
        platform.down(new)
    kept = attributes.repair(new / "bucket")
    assert kept == 0, "what has attributes keeps them"


@pytest.fixture
def plain_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without extended attributes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "ramfs", str(place)], capture_output=True).returncode:
        pytest.skip("a file system without extended attributes can be mounted by root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_copy_lists_the_same_where_there_are_no_attributes(engine: Engine, checkout: Path, plain_disk: Path) -> None:
    """There fake-gcs-server keeps in a file of its own what it knows of an object."""
    client(engine.platform.storage_address).bucket("other").blob("kept.json").upload_from_string("{}")
    new = plain_disk / "state"
    subprocess.run(["cp", "-r", engine.state, new], check=True)
    (new / "platform.json").unlink()
    for _ in range(2):
        copied = Engine(new, checkout)
        try:
            there = client(copied.platform.storage_address).bucket("other")
            assert "kept.json" in [blob.name for blob in there.list_blobs()]
            assert there.blob("kept.json").download_as_bytes(checksum="crc32c") == b"{}"
        finally:
            platform.down(new)


FORBIDDEN = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
"""A shell's script that runs a command where nothing can be confined, in a user namespace of its own."""


def test_where_nothing_can_be_confined_the_platform_starts_only_if_told_to(tmp_path: Path, checkout: Path) -> None:
    state = tmp_path / "state"
    start = (
        "import sys\nfrom pathlib import Path\nfrom mlops.engines.embedded import platform\n"
        f"state, checkout = Path({str(state)!r}), Path({str(checkout)!r})\n"
        "try:\n    platform.up(state, ['models'], checkout=checkout, feed=False, notice=print)\n"
        "except platform.PlatformError as error:\n    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
        "print(platform.down(state))\n"
    )
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", FORBIDDEN, "sh", sys.executable, "-c", start]
    possible = subprocess.run([*inside[:-3], "true"], capture_output=True).returncode == 0
    if not possible:
        pytest.skip("this kernel has no user namespaces, so what is tested here is so anyway")
    kept = {name: value for name, value in os.environ.items() if name != "MLOPS_UNCONFINED"}
    refused = subprocess.run(inside, capture_output=True, text=True, env=kept)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
    assert "MLOPS_UNCONFINED=allow" in refused.stderr
    assert platform.find(state) is None
    allowed = subprocess.run(inside, capture_output=True, text=True, env={**kept, "MLOPS_UNCONFINED": "allow"})
    assert allowed.returncode == 0, allowed.stderr
    *told, stopped = allowed.stdout.splitlines()
    assert len(told) == 1
    assert "unconfined" in told[0]
    assert stopped == "True"
