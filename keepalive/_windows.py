"""Windows: which streams are due together.

Law: times in, streams out, in order. Knows no clock and no event loop; what waits in a window
is anything with room for its place.

Streams that are due within one slack of each other share a window, so that one wake-up serves
them all. A heap orders the windows, of which an interval has some fifty at most, however many
streams there are. Within a window streams are linked to each other: no object is made for a
stream that waits, and none is searched for.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias

TIMER_ERROR: Final = 1e-3
"""Seconds a timer may fire early; uvloop's clock counts milliseconds."""

STALE: Final = 64
"""Windows that may be over, and still in the heap, before it is built anew."""

Key: TypeAlias = tuple[float, float]


class Seated(Protocol):
    """What waits in a window: `ahead` and `behind` are its neighbours there, or `None`."""

    ahead: Any
    behind: Any


class Window:
    """A ring of neighbours; its own two links close it."""

    __slots__ = ("ahead", "behind", "key", "when")

    when: float
    """When the first of them is due."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.when = math.inf
        self.ahead: Any = self
        self.behind: Any = self

    def __iter__(self) -> Iterator[Any]:
        link = self.behind
        while link is not self:
            yield link
            link = link.behind


class Windows:
    """All who wait, by their times."""

    __slots__ = ("_heap", "_opened", "_order", "_size", "_windows")

    def __init__(self) -> None:
        self._windows: dict[Key, Window] = {}
        self._heap: list[tuple[float, int, Window]] = []
        self._order = itertools.count()
        self._opened: Window | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        """All who wait; not to be changed meanwhile."""
        opened = () if self._opened is None else (self._opened,)
        return itertools.chain.from_iterable((*opened, *self._windows.values()))

    def put(self, member: Seated, when: float, slack: float) -> None:
        """Seat somebody until a time; whoever waits already changes seats.

        Args:
            member: Who.
            when: When they are due.
            slack: How much sooner they may be served in the company of others. Above 0.
        """
        if member.ahead is None:
            self._size += 1
        else:
            self._unseat(member)
        key = (slack, when // slack)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(key)
        if when < window.when:
            window.when = when
            heapq.heappush(self._heap, (when, next(self._order), window))
        # Behind all others.
        last = window.ahead
        member.ahead, member.behind = last, window
        last.behind = window.ahead = member

    def drop(self, member: Seated) -> bool:
        """Have somebody wait no more; tell whether they did."""
        if member.ahead is None:
            return False
        self._unseat(member)
        self._size -= 1
        if len(self._heap) > 2 * len(self._windows) + STALE:
            self._heap = [each for each in self._heap if each[0] == each[2].when]
            heapq.heapify(self._heap)
        return True

    def _unseat(self, member: Seated) -> None:
        ahead, behind = member.ahead, member.behind
        ahead.behind, behind.ahead = behind, ahead
        member.ahead = member.behind = None
        if ahead is behind and ahead is not self._opened:  # they were alone in their window
            del self._windows[ahead.key]
            ahead.when = math.inf

    def first(self) -> float | None:
        """Return when the first window is due."""
        while self._heap and self._heap[0][0] != self._heap[0][2].when:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Any | None:
        """Return the first in line whose time has come; to be put elsewhere at once."""
        return self._in_line() or self._open(lambda slack: now + min(TIMER_ERROR, slack))

    def nearly_due(self, now: float) -> Any | None:
        """Return the first in line whose time has come or is near: within its slack."""
        return self._in_line() or self._open(lambda slack: now + slack)

    def _in_line(self) -> Any | None:
        opened = self._opened
        return None if opened is None or opened.behind is opened else opened.behind

    def _open(self, latest: Callable[[float], float]) -> Any | None:
        """Open the first window, if it is due by then, and return who is first in it."""
        if self.first() is None or self._heap[0][0] > latest(self._heap[0][2].key[0]):
            self._opened = None
            return None
        self._opened = heapq.heappop(self._heap)[2]
        del self._windows[self._opened.key]
        return self._opened.behind
