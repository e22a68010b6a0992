"""A cursor leads to the next page of its own search and to no other."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_search.cursor import read_cursor, write_cursor


@given(start=st.integers(0, 10**9), search=st.text(max_size=20))
def test_a_cursor_reads_back_as_it_was_written(start: int, search: str) -> None:
    assert read_cursor(write_cursor(start, search), search) == start


def _with_start(start: bytes) -> str:
    digest = base64.urlsafe_b64decode(write_cursor(0, "dog") + "==")[:6]
    return base64.urlsafe_b64encode(digest + start).decode().rstrip("=")


@pytest.mark.parametrize(
    ("cursor", "words"),
    [
        ("", "is none"),
        ("20", "is none"),
        ("*" * 12, "is none"),
        ("é", "is none"),
        ("A" * 5000, "is none"),
        (write_cursor(20, "cat"), "another search"),
        (_with_start(b"-1"), "is none"),
        (_with_start(b"020"), "is none"),
        (_with_start(b""), "is none"),
    ],
)
def test_what_is_no_cursor_of_this_search_is_refused(cursor: str, words: str) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        read_cursor(cursor, "dog")
    assert (caught.value.param, caught.value.code) == ("cursor", "bad_cursor")
