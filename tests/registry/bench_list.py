"""What `mlops models list` costs: seeds versions in a bucket and measures the listing.

Run by `make bench`, or by itself: `python -m tests.registry.bench_list [N ...]`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from mlops_registry import Registry

from .conftest import MODEL, ORIGIN, finished_training, start_emulator

BUCKET = "bench-list"


@dataclass(frozen=True)
class Listing:
    """One listing: how many versions it told of, and its cost.

    Attributes:
        versions: that the list shows, all of them verified.
        seconds: wall time of `Registry.list` by a new client.
        requests: that it sent.
        bytes: of the answers' bodies.
        used_bytes: of these, the names and metadata that the list is made from: what GCS sends, where the server
            filters by glob and fields; the emulator does neither.
    """

    versions: int
    seconds: float
    requests: int
    bytes: int
    used_bytes: int


def measure(sizes: Iterable[int] = (100, 1_000, 10_000), threads: int = 4) -> Iterator[Listing]:
    """Fill a bucket of its own up to each size in turn, and list it.

    Every version is stored by `Registry.store`; its verification is written as `Registry.verify` does, without starting
    Node for each.
    """
    outside = os.environ.get("STORAGE_EMULATOR_HOST")
    with tempfile.TemporaryDirectory() as folder:
        process, emulator = start_emulator(Path(folder) / "bucket")
        try:
            emulator.create(BUCKET)
            os.environ["STORAGE_EMULATOR_HOST"] = emulator.address
            filled = 0
            for size in sorted(sizes):
                _fill(range(filled, size), threads, Path(folder))
                filled = size
                yield _list(size)
        finally:
            process.kill()
            process.wait()
            os.environ.pop("STORAGE_EMULATOR_HOST")
            if outside is not None:
                os.environ["STORAGE_EMULATOR_HOST"] = outside


def _fill(numbers: range, threads: int, folder: Path) -> None:
    facts = {"format": "tfjs-layers", "message": None, "examples": 20, "max_difference": 0.0, "tolerance": 0.0}

    def fill(part: range) -> None:
        registry = Registry(f"gs://{BUCKET}/models")
        for number in part:
            version = f"sales_v{number // 40}_{number:08x}-0000-4000-8000-000000000000"
            registry.store(MODEL, version, finished_training(folder / version, seed=number), ORIGIN)
            registry._record(MODEL, version, facts, "bench")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, [numbers[n::threads] for n in range(threads)]))


def _list(expected: int) -> Listing:
    registry = Registry(f"gs://{BUCKET}/models")
    answers: list[int] = []
    registry.bucket.client._http.hooks["response"].append(lambda answer, **_: answers.append(len(answer.content)))
    start = time.perf_counter()
    versions = registry.list()
    seconds = time.perf_counter() - start
    if len(versions) != expected or any(version.verified != "passed" for version in versions):
        raise RuntimeError(f"the list shows {len(versions)} of {expected} versions")
    cost = len(answers), sum(answers)
    used = sum(len(item.name) + len(str(item.metadata)) for item in registry.bucket.entries("models/") if item.metadata)
    return Listing(expected, round(seconds, 3), *cost, used)


if __name__ == "__main__":
    for listing in measure([int(size) for size in sys.argv[1:]] or (100, 1_000, 10_000)):
        print(asdict(listing))
