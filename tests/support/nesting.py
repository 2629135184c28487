"""Two middlewares around one app, for tests of nested middlewares."""

from support.harness import http

from keepalive import AbortController, KeepaliveMiddleware, Ping, StopReason, StreamEnded

INNER_BYE = Ping.event("inner")
OUTER_BYE = Ping.event("outer")
NDJSON = "application/x-ndjson"


class Nest:
    """Two middlewares around an app, each with a signal and an observer of its own."""

    def __init__(self, outer=None, inner=None):
        self.signals = {"outer": AbortController(), "inner": AbortController()}
        self.events = {"outer": [], "inner": []}
        self.options = {"outer": outer or {}, "inner": inner or {}}
        self.layers = {}

    def layer(self, name, app, bye):
        """Put the middleware of that name around an app."""
        options = {"farewell": bye} | self.options[name]
        if not {"drain", "max_lifetime", "max_silence"} & options.keys():
            del options["farewell"]
        self.layers[name] = KeepaliveMiddleware(
            app,
            abort=self.signals[name].signal,
            observer=self.events[name].append,
            **options,
        )
        return self.layers[name]

    def __call__(self, app, **_):
        """Put both around an app, as the `wrap` of `play`."""
        return self.layer("outer", self.layer("inner", app, INNER_BYE), OUTER_BYE)

    def stop(self, name, how):
        """Return what stops one of the two: its signal or its shutdown."""
        stop = self.signals[name].abort if how == "abort" else None
        return stop or (lambda: self.layers[name].shutdown())

    def ended(self, name):
        """Return the event of the end of the stream of one of the two."""
        (event,) = [each for each in self.events[name] if isinstance(each, StreamEnded)]
        return event

    def reason(self, name):
        """Return why the stream of one of the two has ended."""
        return self.ended(name).reason

    @property
    def reasons(self):
        """Why the streams of the outer and the inner one have ended."""
        return self.reason("outer"), self.reason("inner")


HOW = {"abort": StopReason.ABORTED, "shutdown": StopReason.SHUTDOWN}
"""The ways to stop one, and the reason that each is reported with."""


def bye(name):
    """Return the farewell of one of the two, as it is sent."""
    return Ping.event(name).payload


EARLY = {"scope": http(headers=[(b"accept", b"text/event-stream")]), "head": None}
"""Options of `play` for a request whose response may be started early."""
