"""Deadlines of any number of entries, in order.

Time is divided into slots as long as the slack. Entries that are due in the same slot share a
bucket, so that one timer serves them all. A heap orders the buckets; with a slack of 2 % of
the interval there are some fifty of them per interval, however many streams there are. Within
a bucket the entries are linked to each other: no object is created for an entry, and none has
to be searched for. This is what makes rescheduling cheap, which happens once per ping and
stream.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias

TIMER_ERROR: Final = 1e-3
"""Seconds by which a timer may fire early; uvloop's clock counts milliseconds."""

MAX_STALE: Final = 64
"""Buckets that may be empty and still in the heap before it is rebuilt.

Rebuilding takes time linear in the heap; twice as many plus this constant keeps it rare, and
the heap small if all streams come and go.
"""

Key: TypeAlias = tuple[float, float]


class Entry(Protocol):
    """What can be queued: an object with room for two links, which are the queue's own."""

    _prev: Any
    _next: Any


class Bucket:
    """A ring of entries; its own two links close it."""

    __slots__ = ("_next", "_prev", "key", "when")

    when: float
    """When its first entry is due, or was before that was removed."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.when = math.inf
        self._prev: Any = self
        self._next: Any = self

    def __iter__(self) -> Iterator[Any]:
        entry = self._next
        while entry is not self:
            yield entry
            entry = entry._next


class TimerQueue:
    """Entries by the times at which they are due."""

    __slots__ = ("_buckets", "_current", "_heap", "_order", "_recent", "_recent_when", "_size")

    def __init__(self) -> None:
        self._buckets: dict[Key, Bucket] = {}
        self._heap: list[tuple[float, int, Bucket]] = []
        self._order = itertools.count()
        self._current: Bucket | None = None  # no longer in the heap
        self._size = 0
        self._recent: Bucket | None = None  # that the last entry was put into
        self._recent_when = 0.0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        """Iterate over all entries. The queue must not be changed meanwhile."""
        current = () if self._current is None else (self._current,)
        return itertools.chain.from_iterable((*current, *self._buckets.values()))

    def schedule(self, entry: Entry, when: float, slack: float) -> None:
        """Schedule an entry, or reschedule it.

        Args:
            entry: The entry.
            when: When it is due.
            slack: Seconds by which it may be served early, together with others. Above 0.
        """
        before = entry._prev
        if before is None:
            self._size += 1
        else:
            after = entry._next
            before._next, after._prev = after, before
            if before is after:
                self._discard_if_empty(before)
        bucket = self._recent
        if bucket is None or when != self._recent_when or slack != bucket.key[0]:
            bucket = self._bucket(when, slack)
        # At the end of the ring.
        last = bucket._prev
        entry._prev, entry._next = last, bucket
        last._next = bucket._prev = entry

    def _bucket(self, when: float, slack: float) -> Bucket:
        """Return the bucket for that time, and remember it: many entries have the same."""
        key = (slack, when // slack)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(key)
        if when < bucket.when:
            bucket.when = when
            heapq.heappush(self._heap, (when, next(self._order), bucket))
        self._recent, self._recent_when = bucket, when
        return bucket

    def cancel(self, entry: Entry) -> bool:
        """Remove an entry. Returns whether it was scheduled."""
        if entry._prev is None:
            return False
        self._unlink(entry)
        self._size -= 1
        if len(self._heap) > 2 * len(self._buckets) + MAX_STALE:
            self._heap = [item for item in self._heap if item[0] == item[2].when]
            heapq.heapify(self._heap)
        return True

    def _unlink(self, entry: Entry) -> None:
        before, after = entry._prev, entry._next
        before._next, after._prev = after, before
        entry._prev = entry._next = None
        if before is after:
            self._discard_if_empty(before)

    def _discard_if_empty(self, bucket: Bucket) -> None:
        """Discard a bucket without entries, unless it is the current one.

        It is called if the two neighbours of an entry are the same object.
        """
        if bucket is not self._current:
            del self._buckets[bucket.key]
            bucket.when = math.inf  # its items in the heap are stale
            if bucket is self._recent:
                self._recent = None

    def next_at(self) -> float | None:
        """Return when the first bucket is due; `None` if nothing is scheduled."""
        if self._current is not None and self.rest_of_current() is not None:
            return self._current.when
        while self._heap and self._heap[0][0] != self._heap[0][2].when:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def next_due(self, now: float) -> Any | None:
        """Return the first entry whose time has come. It stays first until rescheduled."""
        return self.rest_of_current() or self._open_next(
            lambda slack: now + min(TIMER_ERROR, slack)
        )

    def next_due_soon(self, now: float) -> Any | None:
        """Return the first entry whose time comes within its slack."""
        return self.rest_of_current() or self._open_next(lambda slack: now + slack)

    def rest_of_current(self) -> Any | None:
        """Return the next entry of the bucket that is being served; `None` if none is left."""
        current = self._current
        return None if current is None or current._next is current else current._next

    def _open_next(self, latest: Callable[[float], float]) -> Any | None:
        """Make the first bucket the current one, if it is due, and return its first entry."""
        if self.next_at() is None or self._heap[0][0] > latest(self._heap[0][2].key[0]):
            self._current = None
            return None
        self._current = heapq.heappop(self._heap)[2]
        del self._buckets[self._current.key]
        if self._current is self._recent:
            self._recent = None
        return self._current._next
