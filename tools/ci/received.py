"""What a run for a pull request left, taken as a stranger's: `received.py FOLDER`, with the run named by variables.

Owns which pull request a run belongs to, and how much of what it left is read. Both are asked of GitHub and never of
what was left: RUN_ID, HEAD_SHA, HEAD_REPOSITORY and HEAD_BRANCH are those of the event `workflow_run`. Writes the files
`<stack>.json` of the run's artifact `plan` to FOLDER, and prints `number=N`, or `number=` where there is nothing to say
any more. Needs `gh` with a token that may read the repository's actions and pull requests.
"""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

ARTIFACT = "plan"
MOST = 8 * 1024 * 1024
"""So many bytes are taken, packed or unpacked: a plan of the largest stack has some hundred thousand."""
_FILE = re.compile(r"[a-z][a-z0-9-]{0,30}\.json")
_FILES = 20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ReceivedError(Exception):
    """What was left is not taken; the message says why in one line."""


def pull_request(repository: str, head_repository: str, branch: str, sha: str) -> int | None:
    """The open pull request whose newest commit is the one that was run; None if it is closed, or goes on already."""
    owner = head_repository.partition("/")[0]
    found = _json(f"repos/{repository}/pulls", state="open", head=f"{owner}:{branch}", per_page="100")
    numbers = [
        pull["number"]
        for pull in found
        # The filter `head` is ignored where it is not understood.
        if pull["head"]["sha"] == sha and (pull["head"]["repo"] or {}).get("full_name") == head_repository
    ]
    return min(numbers, default=None)


def files(repository: str, run: str) -> dict[str, bytes]:
    """What the run left, by file name.

    Raises:
        ReceivedError: It is not what a run of this project leaves.
    """
    listed = _json(f"repos/{repository}/actions/runs/{run}/artifacts", name=ARTIFACT)["artifacts"]
    if len(listed) != 1:
        raise ReceivedError(f"the run has {len(listed)} artifacts named {ARTIFACT}, so none is taken; it leaves one")
    if listed[0]["size_in_bytes"] > MOST:
        raise ReceivedError(f"the artifact has {listed[0]['size_in_bytes']:,} bytes, so it is not taken; {MOST:,} are")
    packed = _gh(f"repos/{repository}/actions/artifacts/{int(listed[0]['id'])}/zip")
    return unpacked(packed)


def unpacked(packed: bytes) -> dict[str, bytes]:
    """The files of an archive; nothing is written, and no more is unpacked than is taken.

    Raises:
        ReceivedError: It holds something else, or more.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(packed))
        members = archive.infolist()
        odd = [one.filename for one in members if not _FILE.fullmatch(one.filename) or one.compress_type not in _PACKED]
        if odd or len(members) > _FILES or len({one.filename for one in members}) < len(members):
            raise ReceivedError(
                f"the artifact holds other files than <stack>.json, so it is not taken: {odd[:1]!r:.60}"
            )
        found: dict[str, bytes] = {}
        room = MOST
        for one in members:
            with archive.open(one) as file:
                # What the archive says of sizes is its maker's word.
                found[one.filename] = file.read(room + 1)
            room -= len(found[one.filename])
            if room < 0:
                raise ReceivedError(f"the artifact unpacks to more than {MOST:,} bytes, so it is not taken")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ReceivedError(
            f"the artifact is no archive that can be read, so it is not taken: {error!s:.100}"
        ) from None
    return found


def _json(path: str, **fields: str) -> Any:
    return json.loads(_gh("--method", "GET", path, *(f"--raw-field={key}={value}" for key, value in fields.items())))


def _gh(*arguments: str) -> bytes:
    process = subprocess.Popen(["gh", "api", *arguments], stdout=subprocess.PIPE)
    assert process.stdout  # noqa: S101  it is a pipe
    answer = process.stdout.read(MOST + 1)
    if len(answer) > MOST:
        process.kill()
        raise ReceivedError(f"GitHub answers with more than {MOST:,} bytes, so nothing is taken")
    if process.wait():
        raise ReceivedError("GitHub does not answer as above, so nothing is taken")
    return answer


def main(folder: Path) -> None:
    """Take what the run left."""
    told = os.environ
    repository = told["GITHUB_REPOSITORY"]
    number = pull_request(repository, told["HEAD_REPOSITORY"], told["HEAD_BRANCH"], told["HEAD_SHA"])
    if number is not None:
        folder.mkdir(parents=True)
        for name, content in files(repository, told["RUN_ID"]).items():
            (folder / name).write_bytes(content)
    print(f"number={'' if number is None else number}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except ReceivedError as error:
        sys.exit(f"received: {error}")
