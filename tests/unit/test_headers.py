"""Headers that are added to a stream's start."""

from support.harness import END, play, start


def test_headers_that_are_added(backend):
    added = [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache, no-transform")]
    own = [(b"content-type", b"text/event-stream")]
    assert play(backend, [(1, END)], head=start(own)).headers == own + added
    assert play(backend, [(1, END)], head=start(own), anti_buffering=False).headers == own
    for mine in [(b"X-Accel-Buffering", b"yes"), (b"Cache-Control", b"max-age=1")]:
        headers = [*own, mine]
        world = play(backend, [(1, END)], head=start(headers))
        rest = [pair for pair in added if pair[0] != mine[0].lower()]
        assert world.headers == headers + rest
        assert headers == [*own, mine]
