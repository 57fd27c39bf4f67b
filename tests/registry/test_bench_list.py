"""`make bench` is run by hand, months apart: its listing, at its smallest, is run with every change."""

from .bench_list import measure


def test_the_bench_lists_what_it_stored_in_one_request() -> None:
    (listing,) = measure([5], threads=1)
    assert (listing.versions, listing.requests) == (5, 1)
    assert 0 < listing.used_bytes < listing.bytes
