"""The heart: the deadlines of all streams of one event loop.

Law: sleeps until the next deadline, and tells the streams that are due. Knows no bytes, no
policy and no ASGI. Everything but `post` belongs to the loop's own thread.
"""

import heapq
import itertools
import weakref
from collections import deque
from contextvars import Context
from typing import Any, Final, Protocol, TypeAlias

from anyio.lowlevel import RunVar

from ._backend import Cancel, Loop, current_loop

BATCH: Final = 64
"""Streams served in one turn of the loop, so that a beat never holds it for long."""

TIMER_ERROR: Final = 1e-3
"""Seconds a timer may fire early; uvloop's clock counts milliseconds."""

Entry: TypeAlias = list[Any]
"""`[when, order, member]`, the member `None` once removed; lists, for the heap's sake."""


class Member(Protocol):
    """What the heart asks of a stream."""

    context: Context

    @property
    def slack(self) -> float:
        """Seconds that it may be told early, to be served together with others."""
        ...  # pragma: no cover

    def look(self, when: float, now: float) -> tuple[bool, float]:
        """Tell whether a ping is due, and when to look again."""
        ...  # pragma: no cover

    def say(self) -> None:
        """Send the due ping, if the stream is still silent."""
        ...  # pragma: no cover

    def heed(self) -> None:
        """See what a signal says."""
        ...  # pragma: no cover


class Heart:
    """Wakes the streams of one event loop; one timer for all of them."""

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_alarm_at",
        "_beating",
        "_entries",
        "_members",
        "_order",
        "_posted",
        "_posting",
        "loop",
    )

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._entries: list[Entry] = []
        self._members = 0
        self._order = itertools.count()
        self._alarm: Cancel | None = None
        self._alarm_at = 0.0
        self._beating = False
        self._posted: deque[Member] = deque()
        self._posting = False

    @classmethod
    def current(cls) -> "Heart":
        """Return the running event loop's heart; it lives as long as it has streams."""
        reference = _HEART.get(None)
        heart = reference() if reference is not None else None
        if heart is None:
            heart = cls(current_loop())
            _HEART.set(weakref.ref(heart))
        return heart

    def __len__(self) -> int:
        return self._members

    def add(self, member: Member, when: float) -> Entry:
        """Look at a stream from this time on; the entry is its way out."""
        entry: Entry = [when, next(self._order), member]
        heapq.heappush(self._entries, entry)
        self._members += 1
        self._arm()
        return entry

    def remove(self, entry: Entry) -> None:
        """Forget a stream. Once for each entry."""
        entry[2] = None
        self._members -= 1
        if not self._members:
            self._entries.clear()
            self._arm()
        elif len(self._entries) > 2 * self._members + BATCH:
            # In place: a beat may hold the list.
            self._entries[:] = [entry for entry in self._entries if entry[2] is not None]
            heapq.heapify(self._entries)

    def post(self, member: Member) -> None:
        """Have a stream heed its signals. From any thread or signal handler; no lock."""
        self._posted.append(member)
        if not self._posting:
            self._posting = True
            self.loop.wake(self._deliver)

    def _deliver(self) -> None:
        self._posting = False
        for _ in range(min(BATCH, len(self._posted))):
            member = self._posted.popleft()
            member.context.run(member.heed)
        if self._posted and not self._posting:
            self._posting = True
            self.loop.call_soon(self._deliver)

    def _arm(self) -> None:
        """Set the one timer to the first deadline."""
        while self._entries and self._entries[0][2] is None:
            heapq.heappop(self._entries)
        when = self._entries[0][0] if self._entries and not self._beating else None
        if self._alarm is not None and when != self._alarm_at:
            self._alarm()
            self._alarm = None
        if self._alarm is None and when is not None:
            self._alarm_at = when
            self._alarm = self.loop.call_at(when, self._beat)

    def _beat(self) -> None:
        self._alarm = None
        if due := self._look(self.loop.time()):
            # Two turns later, so that data which the app sends at this very time goes first:
            # in the first, what the app waits for wakes its task; in the second, that sends.
            self._beating = True
            call_soon = self.loop.call_soon
            call_soon(lambda: call_soon(lambda: self._say(due)))
        else:
            self._arm()

    def _say(self, due: list[Member]) -> None:
        self._beating = False
        for member in due:
            member.say()
        self._arm()

    def _look(self, now: float) -> list[Member]:
        """Return the streams that are due, and move their deadlines on.

        Once one is due, those that follow within their slack are served with it.
        """
        due: list[Member] = []
        seen: list[Entry] = []
        while self._entries and len(seen) < BATCH:
            when, _, member = entry = self._entries[0]
            if member is None:
                heapq.heappop(self._entries)
                continue
            early = member.slack if due else min(TIMER_ERROR, member.slack)
            if when > now + early:
                break
            heapq.heappop(self._entries)
            seen.append(entry)
            silent, entry[0] = member.look(when, now)
            if silent:
                due.append(member)
        for entry in seen:
            heapq.heappush(self._entries, entry)
        return due


_HEART: Final[RunVar["weakref.ref[Heart]"]] = RunVar("keepalive heart")
"""The slot of each event loop that its heart is found in; a key, no state."""
