"""How many pings a stream has sent so far, for apps of the tests that wait for pings."""

from keepalive import KeepaliveStream


def sent_pings(stream: KeepaliveStream) -> int:
    """Return how many pings have been sent.

    Users count them with an observer. A test's app that waits for pings would need an observer
    for each of its requests.
    """
    return stream._responder.keeper.pings
