"""`models list` as versions grow."""

import argparse

from tests.registry import bench_list


def options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1_000, 10_000], help="versions in the bucket")


def measure(chosen: argparse.Namespace) -> None:
    """What one listing costs, at each size."""
    print("models list: one listing, no read a version")
    for result in bench_list.measure(chosen.sizes):
        figures = f"{result.seconds:8.2f} s  {result.requests:>5} request(s)  {result.bytes / 1e6:8.2f} MB"
        print(f"  {result.versions:>6} versions  {figures}  {result.used_bytes / 1e6:8.2f} MB of it used")
