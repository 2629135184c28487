"""Path patterns: what each matches, by a plain oracle; and that no path takes long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalive import Policy
from keepalive._routing import Routes

PIECES = ["{}", "{:path}", "-", "/", "a", "/a", "-a", ""]


def pattern_of(pieces):
    """Return a pattern whose parameters have names of their own."""
    text = "/"
    for number, piece in enumerate(pieces):
        text += piece.replace("{", f"{{p{number}")
    return text


def matches(pattern, path):
    """Whether a path matches, each end of each parameter tried."""
    parts = re.split(r"(\{[^}]*\})", pattern)
    some = {part: r"[\s\S]*" if ":path" in part else r"[^/]+" for part in parts[1::2]}
    return bool(re.fullmatch("".join(some.get(x) or re.escape(x) for x in parts), path))


@given(st.lists(st.sampled_from(PIECES), max_size=7), st.text("a-/b", max_size=10))
def test_a_pattern_matches_what_it_would_with_every_end_tried(pieces, path):
    pattern, path = pattern_of(pieces), f"/{path}"
    chosen = Routes(Policy(), {pattern: 1.0}).match({"path": path})
    assert (chosen.pattern == pattern) == matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/{a}-{b}-{c}", "/" + "-" * 4000 + "/"),  # 90 seconds, with every end tried
        ("/{a}-{b}/c", "/" + "-" * 400_000),
        ("/u/{p:path}/b/{q:path}/c", "/u/" + "/b/" * 100_000),
    ],
)
def test_no_path_takes_long(pattern, path):
    assert Routes(Policy(), {pattern: 1.0}).match({"path": path}).pattern == "*"
