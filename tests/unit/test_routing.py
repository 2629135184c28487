"""Path patterns: what each matches, by a plain oracle; and that no path takes long."""

import re

import pytest
from hypothesis import assume, given
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
    assume(not re.search(r":path\}[^/]*\{", pattern))  # rejected, see below
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


@pytest.mark.parametrize(
    "pattern", ["/{p:path}.{ext}", "/{p:path}{q:path}", "/a/{p:path}-x-{q}/b"]
)
def test_a_path_with_a_parameter_after_it_in_its_segment_is_rejected(pattern):
    """Matching it would take quadratic time."""
    with pytest.raises(
        ValueError, match="must be the last parameter in a segment, got"
    ) as info:
        Routes(Policy(), {pattern: 1.0})
    assert repr(pattern) in str(info.value)


@pytest.mark.parametrize(
    ("pattern", "correct"),
    [
        ("/files/*", "/files/{rest:path}"),
        ("/files/**", "/files/{rest:path}"),
        ("/users/<name>", "/users/{name}"),
        ("/users/<int:number>/x", "/users/{number}/x"),
        ("/users/:name/x", "/users/{name}/x"),
    ],
)
def test_the_syntax_of_other_frameworks_is_rejected_with_the_correct_form(pattern, correct):
    with pytest.raises(ValueError, match="a pattern must be written as") as info:
        Routes(Policy(), {pattern: 1.0})
    assert repr(correct) in str(info.value)
    assert repr(pattern) in str(info.value)
    Routes(Policy(), {correct: 1.0})
