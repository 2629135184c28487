"""The place of a middleware among others that serve the same request.

A library may include a middleware of its own, and an operator may wrap the whole app in
another. One of them sends the pings: the innermost one whose options apply to the response, or
an outer one that has started the response early. The others keep everything else: their abort
signals, shutdowns, limits and observers. The responders of one request are linked by their
nestings; a responder that is alone has none.

What travels inwards
    A stop, with its reason: the pings stop wherever they are sent, and the app's signal is
    aborted. An end by an outer middleware is a disconnect for those within.

What travels outwards
    - Who sends the pings.
    - Which messages are pings: to an outer middleware they look like the app's.
    - Whether an end is in progress, so that there is only one farewell.
    - Whether the app listens: an outer middleware can't tell its calls from those by which an
      inner one reads ahead.
"""

from collections.abc import Iterator
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from ._activity import AppActivity
from ._types import Message

R = TypeVar("R")

Pinger: TypeAlias = Literal["this", "inner", "outer"]

THIS: Final = "this"
"""This middleware sends the pings, if its options apply to the response."""
INNER: Final = "inner"
"""One within it does, or excludes the path, so that none does."""
OUTER: Final = "outer"
"""One around it does: it has started the response early."""


class Nesting(Generic[R]):
    """The place of one responder.

    Args:
        responder: The responder.
        outer: The nesting of the middleware around it; `None` for the outermost one.
    """

    __slots__ = (
        "_activity",
        "_inner_ping",
        "claims",
        "inners",
        "is_finishing",
        "outer",
        "pinger",
        "responder",
    )

    pinger: Pinger
    """Who sends the pings."""
    claims: bool
    """Whether its middleware sends the pings, or excludes the path, so that none does."""
    is_finishing: bool
    """Whether its middleware is sending the farewell and the last body."""

    def __init__(self, responder: R, outer: "Nesting[R] | None") -> None:
        self.responder = responder
        self.outer = outer
        self.inners: list[Nesting[R]] = []
        self.pinger = THIS
        self.claims = self.is_finishing = False
        self._inner_ping = b""  # that is on its way, and has not come here
        self._activity: AppActivity | None = None
        if outer is not None:
            outer.inners.append(self)

    def leave(self) -> None:
        """Unlink it: the app's call is over."""
        if self.outer is not None:
            self.outer.inners.remove(self)

    @property
    def outward(self) -> "Iterator[Nesting[R]]":
        """Those around it, the nearest first."""
        nesting = self.outer
        while nesting is not None:
            yield nesting
            nesting = nesting.outer

    @property
    def inward(self) -> "Iterator[Nesting[R]]":
        """Those within it. There are several at one level if an app calls another twice."""
        for inner in [*self.inners]:
            yield inner
            yield from inner.inward

    # Pings

    def claim(self) -> None:
        """Make this the one that sends the pings, or the reason why none does."""
        self.claims = True
        for outer in self.outward:
            outer.pinger = INNER
        for inner in self.inward:
            inner.pinger = OUTER

    def release(self) -> None:
        """Undo `claim`: the server has rejected the response start."""
        self.claims = False
        for inner in self.inward:
            inner.pinger = THIS
        for outer in self.outward:
            outer.reclaim()

    def reclaim(self) -> None:
        """Make this the one that sends the pings, unless one within it claims that."""
        if self.pinger is INNER and not any(inner.claims for inner in self.inward):
            self.pinger = THIS

    def announce_ping(self, payload: bytes) -> None:
        """Announce to those around it that the next message with this body is a ping."""
        for outer in self.outward:
            outer._inner_ping = payload

    def is_inner_ping(self, message: Message) -> bool:
        """Whether a message is a ping that was announced. To be asked once for each."""
        is_ping = self._inner_ping != b"" and message.get("body") == self._inner_ping
        if is_ping:
            self._inner_ping = b""
        return is_ping

    # Ends

    @property
    def inner_is_finishing(self) -> bool:
        """Whether a middleware within it is sending the farewell and the last body."""
        return any(inner.is_finishing for inner in self.inward)

    def observe(self, activity: AppActivity) -> None:
        """Set the observer of the calls that this middleware's app makes."""
        self._activity = activity

    @property
    def innermost_activity(self) -> AppActivity | None:
        """What observes the app itself; `None` if no middleware within it does.

        Of several calls within it at the same time, that of the last one.
        """
        found = [inner._activity for inner in self.inward if inner._activity is not None]
        return found[-1] if found else None
