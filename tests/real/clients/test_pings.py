"""What a client made of a ping, in a word."""

import pytest
from real.clients.pings import (
    HARMFUL,
    INVISIBLE,
    LOGGED,
    PINGS,
    TITLES,
    VISIBLE,
    outcome,
)


@pytest.mark.parametrize(
    ("pinged", "facts", "word"),
    [
        ("abc", {}, INVISIBLE),
        ("abc", {"logged": ["a warning"]}, LOGGED),
        ("xaxbxcx", {}, VISIBLE),
        ("xabc", {"logged": ["a warning"]}, VISIBLE),
        ("ab", {}, HARMFUL),
        ("acb", {}, HARMFUL),
        ("axc", {}, HARMFUL),
        ("", {}, HARMFUL),
        ("abc", {"error": "it raised"}, HARMFUL),
    ],
)
def test_the_word_for_what_came(pinged, facts, word):
    assert outcome("abc", pinged, **facts) == word


def test_every_ping_has_its_title():
    assert PINGS.keys() == TITLES.keys()
    assert len({*TITLES.values()}) == len(TITLES)
