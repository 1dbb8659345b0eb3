"""Matching of texts and UIDs, before anything is looked for."""

from __future__ import annotations

import pytest

from peer.index.queries import matches_text, query_of
from protocol.errors import Refusal


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ("thorax", "THORAX", True),
        ("thorax", "THORAX PA", False),
        ("*", "", True),
        ("thorax*", "THORAX", True),
        ("*pa", "THORAX PA, PA", True),
        ("*pa", "THORAX PA,", False),
        ("t*a*x", "THORAX", True),
        ("*ab*ab*", "XABX", False),
        ("*ab*ab", "ABAB", True),
        ("ab*ab", "ab", False),
        ("a**b", "a\nb", True),
        ("t?o*[*", "THORAX [1]", True),
        ("?", "", False),
        ("*?a?*c", "xaxc", True),
    ],
)
def test_wildcards(wanted, found, expected):
    assert matches_text(wanted, found) is expected


def test_many_wildcards_take_no_time():
    """With a search that turns back, this would take longer than anyone lives."""
    assert not matches_text("*a" * 30 + "*b", "a" * 64)
    assert matches_text("*a" * 30 + "*b", "a" * 64 + "b")


@pytest.mark.parametrize("nothing", [",", "\\", ",\\,"])
@pytest.mark.parametrize("key", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_list_of_no_uids_is_refused(key, nothing):
    with pytest.raises(Refusal, match="UID to match"):
        query_of({key: nothing}, "instances")
