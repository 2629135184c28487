"""The place of a middleware among others: who sends the pings, and who observes the app."""

import pytest

from keepalive._nesting import INNER, OUTER, THIS, Nesting


@pytest.fixture
def nestings():
    """Three middlewares around each other, the outermost first."""
    outermost = Nesting("outermost", None)
    middle = Nesting("middle", outermost)
    return [outermost, middle, Nesting("innermost", middle)]


@pytest.mark.parametrize(
    ("claiming", "pingers"),
    [(0, [THIS, OUTER, OUTER]), (1, [INNER, THIS, OUTER]), (2, [INNER, INNER, THIS])],
)
def test_one_sends_the_pings_until_its_response_is_rejected(nestings, claiming, pingers):
    nestings[claiming].claim()
    assert [each.pinger for each in nestings] == pingers
    nestings[claiming].release()
    assert [each.pinger for each in nestings] == [THIS, THIS, THIS]


def test_the_innermost_one_that_observes_the_app_is_asked(nestings):
    outermost, middle, innermost = nestings
    assert outermost.innermost_activity is None
    activities = [object(), object()]
    middle.observe(activities[0])
    assert outermost.innermost_activity is activities[0]
    innermost.observe(activities[1])
    assert outermost.innermost_activity is activities[1]
    innermost.leave()
    assert outermost.innermost_activity is activities[0]
