"""What is reported of readers that behave badly: of each its own, whatever the others do."""

from dataclasses import replace

import pytest
from real.clients.readings import node, python, read
from real.parts import need

pytestmark = [pytest.mark.real, pytest.mark.parts]

BASE = "http://nowhere"


def reports(family, *names):
    """Read with some odd readers of a family at the same time, given a second."""
    need(*family.parts)
    hasty = replace(family, command=(*family.command, "1"))
    found = read(hasty, BASE, [(name, f"/{name}") for name in names])
    assert all(reading.got == ["one"] for name, reading in zip(names, found, strict=True))
    return [(reading.error, reading.logged) for reading in found]


def test_what_is_reported_of_odd_readers_in_python():
    names = ["warns", "warns-in-a-thread", "raises", "hangs", "hangs-in-a-thread"]
    assert reports(python("odd"), *names) == [
        (None, ["odd: of /warns", "a warning"]),
        (None, ["odd: from a thread"]),
        ("LookupError: on purpose; KeyError: 'as well'", []),
        ("hangs: nothing more in 1 s", []),
        ("hangs: nothing more in 1 s", []),
    ]


def test_what_is_reported_of_odd_readers_in_node():
    assert reports(node("odd"), "warns", "raises", "hangs") == [
        (None, ["of /warns", "an error"]),
        ("TypeError: on purpose; as well", []),
        ("Error: hangs: nothing more in 1 s", []),
    ]
