"""The heart: wakes the streams of one event loop.

Law: sleeps until the next deadline, and has the streams that are silent ping. Knows no bytes,
no policy and no ASGI. Everything but `post` belongs to the loop's own thread.

A beat is one task, not one for each stream: it walks along those that are due and sends their
pings, each in its stream's own context. Should one of them have to wait, the task stays with
it and others take over the walk, more at once each time: a blocked client delays nobody, nor
does a server whose every send has to wait.
"""

import weakref
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, Protocol, TypeAlias

from anyio.lowlevel import RunVar

from ._abort import AbortSignal
from ._backend import Cancel, Loop, current_loop, run_in
from ._windows import TIMER_ERROR, Seated, Windows

BATCH: Final = 32
"""Streams served in one turn of the loop, so that a beat never holds it for long."""

Saying: TypeAlias = Coroutine[Any, Any, None]


class Member(Seated, Protocol):
    """What the heart asks of a stream."""

    @property
    def context(self) -> Context:
        """The context that it pings in."""
        ...  # pragma: no cover

    @property
    def slack(self) -> float:
        """Seconds that it may ping early, in company."""
        ...  # pragma: no cover

    @property
    def stops(self) -> AbortSignal:
        """What stops it, and many others."""
        ...  # pragma: no cover

    def look(self, now: float, latest: float) -> tuple[Saying | None, float]:
        """Return a ping to send, if one was due by `latest`; and when to look again."""
        ...  # pragma: no cover

    def blocked(self, cancel: Cancel) -> None:
        """Hear that the ping has to wait, and what would end that."""
        ...  # pragma: no cover

    def heed(self) -> None:
        """See what the signals say."""
        ...  # pragma: no cover


class Heart:
    """Wakes the streams of one event loop; one timer for all of them."""

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_alarm_at",
        "_beating",
        "_company",
        "_followed",
        "_posted",
        "_posting",
        "_waiting",
        "_walks",
        "_width",
        "loop",
        "time",
    )

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.time = loop.time
        self._waiting = Windows()
        self._alarm: Cancel | None = None
        self._alarm_at = 0.0
        self._beating = False
        self._walks = 0  # that have not had to wait
        self._width = 1  # how many there may be at once
        self._company = False  # whether this beat has sent a ping
        self._followed: dict[AbortSignal, _Following] = {}
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
        return len(self._waiting)

    def add(self, member: Member, when: float) -> None:
        """Look at a stream from this time on, and have it heed what stops it."""
        self._waiting.put(member, when, member.slack)
        following = self._followed.get(member.stops)
        if following is None:
            following = self._followed[member.stops] = _Following(self, member.stops)
        following.members += 1
        self._arm()

    def remove(self, member: Member) -> None:
        """Forget a stream. One that is not there is no error."""
        if self._waiting.drop(member):
            following = self._followed[member.stops]
            following.members -= 1
            if not following.members:
                following.end()
                del self._followed[member.stops]
            if not self._waiting:
                self._arm()

    def post_all(self, signal: AbortSignal) -> None:
        """Have all the streams heed their signals that this one stops. From any thread."""
        self.loop.wake(lambda: self._post_all(signal))

    def _post_all(self, signal: AbortSignal) -> None:
        self._posted.extend(member for member in self._waiting if member.stops is signal)
        self._deliver()

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
        when = None if self._beating else self._waiting.first()
        if self._alarm is not None and when != self._alarm_at:
            self._alarm()
            self._alarm = None
        if self._alarm is None and when is not None:
            self._alarm_at = when
            self._alarm = self.loop.call_at(when, self._beat)

    def _beat(self) -> None:
        self._alarm = None
        self._beating = True
        self._company = False
        self._width = 1
        # Two turns later, so that data which the app sends at this very time goes first: in
        # the first, what the app waits for wakes its task; in the second, that sends.
        soon = self.loop.call_soon
        soon(lambda: soon(self.go_on))

    def go_on(self) -> None:
        """Walk on, if somebody is due."""
        while self._walks < self._width and self._first_due(self.time()) is not None:
            self._walks += 1
            _Walk(self)
        if not self._walks:
            self._beating = False
            self._arm()

    def has_waited(self) -> None:
        """Hear that a walk has come to a halt: have others go on, more at once than before."""
        self._walks -= 1
        self._width = min(2 * self._width, BATCH)
        self.loop.call_soon(self.go_on)

    def has_walked(self) -> None:
        """Hear that a walk is over."""
        self._walks -= 1
        self.go_on()

    def look_at_next(self, now: float) -> tuple[Member, Saying | None] | None:
        """Look at the next stream that is due, and seat it anew; `None` when all are."""
        member = self._first_due(now)
        if member is None:
            return None
        slack = member.slack
        latest = now + (slack if self._company else min(TIMER_ERROR, slack))
        saying, when = member.look(now, latest)
        if member.ahead is not None:  # an eager task may have found that its client has left
            self._waiting.put(member, when, slack)
        if saying is not None:
            self._company = True
        return member, saying

    def _first_due(self, now: float) -> Member | None:
        waiting = self._waiting
        return waiting.nearly_due(now) if self._company else waiting.due(now)


class _Following:
    """One callback on a signal, for all the streams of one loop that it stops."""

    __slots__ = ("_hear", "_signal", "members")

    def __init__(self, heart: Heart, signal: AbortSignal) -> None:
        self.members = 0
        self._signal = signal
        self._hear = lambda: heart.post_all(signal)
        signal.add_callback(self._hear)

    def end(self) -> None:
        self._signal.remove_callback(self._hear)


class _Walk:
    """A task that walks along the streams that are due; until it has to wait, or has done."""

    __slots__ = ("_cancel", "_heart", "_member", "_waited")

    def __init__(self, heart: Heart) -> None:
        self._heart = heart
        self._waited = False
        self._member: Member  # the last that has had a ping to send
        self._cancel: Cancel | None = None  # an eager task is begun before it is known
        self._cancel = heart.loop.spawn(self._run, Context(), self._over)

    async def _run(self) -> None:
        now = self._heart.time()
        for _ in range(BATCH):
            found = self._heart.look_at_next(now)
            if found is None:
                return
            self._member, saying = found
            if saying is not None:
                await run_in(self._member.context, saying, self._blocked)
            if self._waited:
                return

    def _blocked(self) -> None:
        self._waited = True
        self._member.blocked(self._give_up)
        self._heart.has_waited()

    def _give_up(self) -> None:
        if self._cancel is not None:
            self._cancel()

    def _over(self) -> None:
        self._cancel = None  # of a task whose error's traceback may refer to this walk
        if not self._waited:
            self._heart.has_walked()


_HEART: Final[RunVar["weakref.ref[Heart]"]] = RunVar("keepalive heart")
"""The slot of each event loop that its heart is found in; a key, no state."""
