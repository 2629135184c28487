"""The scheduler: wakes up the streams of one event loop when their pings are due.

There is one scheduler per event loop, with one timer for all of its streams and a few tasks:
a stream has no task, timer or lock of its own. This is what keeps an idle stream small, and
what lets a timer serve all streams that are due within the same 2 % of the interval.

One round
    1. The timer fires (`_on_timer`). For two turns of the event loop nothing happens, so that
       data that an app sends at this very time goes first, and makes the ping unnecessary.
    2. A worker, which is a task, polls one due stream after the other. A stream that is
       polled sends its ping, in its own context; if the server has to wait, the worker
       finishes the send. It stops when no stream is due any more.
    3. When no worker is left, the timer is set to the next deadline.

The states of a round
    idle      `_round_active` is false: the timer is set, if anything is scheduled.
    active    `_round_active` is true: there is no timer, since the workers look at the clock.
    alone     `_coalescing` is false: no ping has been sent in this round. A stream is polled
              only if it is due now: being early is justified only if it saves a wake-up.
    together  `_coalescing` is true, from the round's first ping on. Streams whose pings are
              due within their slack are served as well.

Blocked pings
    A send may block, if its client does not read, or on servers whose every send yields to
    other tasks (hypercorn, anything on trio). A worker whose ping blocks stays with that ping,
    and others take over; each time this happens, twice as many may run at the same time
    (`_max_workers`), up to one per stream of a batch. So a blocked client delays no others,
    and a server whose every send yields is not limited to one ping per turn; but the usual
    round is one task.

The coarse clock
    Streams that send many events in a short time read `now` instead of the event loop's clock.
    A timer moves it on while there are such streams. If the event loop was blocked, the clock
    stood still meanwhile; `corrected` allows for that.

Batches
    All workers together poll at most BATCH streams in one turn of the event loop: the more of
    them there may be, the fewer each polls. Notifications are run in batches of the same size.
    This bounds how long any of it blocks the loop.

Threads
    Everything belongs to the event loop's thread, except `notify` and `notify_all`, which may
    be called from any thread and from a signal handler: they wake the loop, after `notify` has
    appended to a deque, which is atomic. They take no lock, because a signal handler may have
    interrupted the owner of one.
"""

import math
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias

from anyio.lowlevel import RunVar

from ._abort import AbortSignal, WeakCallback
from ._eventloop import Cancel, Loop, current_loop, run_in
from ._timerqueue import TIMER_ERROR, Entry, TimerQueue
from ._types import LOGGER, do_nothing

BATCH: Final = 32
"""Streams that are served in one turn of the event loop.

At some 2 us per ping that is less than 0.1 ms, server excluded. docs/performance.md has the
longest turn of 10,000 streams that are due at once.
"""

RETRY_DELAY: Final = 0.5
"""Seconds after which starting a worker is tried again. Each failure is logged."""

MAX_LATENESS: Final = 1.0
"""Seconds by which a timer may be late before a warning is logged.

Less is usual on a busy machine, and intervals leave more than that before an idle timeout.
"""

WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings about late timers."""

CLOCK_RESOLUTION: Final = 0.1
"""Seconds by which the time of the last event of a busy stream may be too early.

Reading the event loop's clock takes 0.1 us, a quarter of what an event costs (CPython 3.11,
asyncio); a timer that fires ten times a second costs nothing by comparison. It must not exceed
a stream's slack, so that streams with an interval below 5 s read the exact clock.
"""

LOOP_TURNS_OF_CANCELLATION: Final = 5
"""Turns of the event loop in which a task that is cancelled ends, unless it resists."""

PingCoroutine: TypeAlias = Coroutine[Any, Any, None]
PollResult: TypeAlias = Literal["not_due", "sent"] | tuple[Context, PingCoroutine]

NOT_DUE: Final = "not_due"
"""No ping is due, or it can't be sent now."""
SENT: Final = "sent"
"""A ping was due, and has been sent.

Otherwise a result is a coroutine that sends the ping, and the context in which that runs.
"""


class Stream(Entry, Protocol):
    """A stream, as the scheduler sees it: `LiveStream`, which is in a layer above this one."""

    @property
    def context(self) -> Context:
        """The context in which its signals are checked."""
        ...  # pragma: no cover

    @property
    def slack(self) -> float:
        """Seconds by which a ping may be early."""
        ...  # pragma: no cover

    @property
    def stop_signal(self) -> AbortSignal:
        """The signal that stops it and many others."""
        ...  # pragma: no cover

    def poll(self, now: float, latest: float) -> tuple[PollResult, float]:
        """Send a ping, if one was due by `latest`.

        Return what came of it, and when to poll again.
        """
        ...  # pragma: no cover

    def ping_blocked(self, cancel: Cancel) -> None:
        """Called when the ping's send blocks; `cancel` aborts it."""

    def check_signals(self) -> None:
        """Called in the stream's context when a signal may have been aborted."""


class PingScheduler:
    """Polls the streams of one event loop; one timer for all of them."""

    __slots__ = (
        "__weakref__",
        "_blocked_at",
        "_cancel_tick",
        "_clock_users",
        "_coalescing",
        "_holder",
        "_is_ticking",
        "_max_workers",
        "_notified",
        "_queue",
        "_retry_at",
        "_round_active",
        "_silent_until",
        "_start_pending",
        "_subscriptions",
        "_timer",
        "_timer_at",
        "_unblocked_at",
        "_wakeup_pending",
        "_workers",
        "loop",
        "now",
        "time",
    )

    def __init__(self, loop: Loop, holder: "Holder | None" = None) -> None:
        self.loop = loop
        # Weakly, so that there is no cycle of references.
        self._holder = None if holder is None else weakref.ref(holder)
        self.time = loop.time
        self._queue = TimerQueue()
        self._timer: Cancel | None = None
        self._timer_at = 0.0
        self._silent_until = -math.inf  # no warning about a late timer before that
        self._retry_at = -math.inf  # not before that: a worker could not be started
        self._round_active = False
        self._coalescing = False
        self._workers = 0  # that are not blocked
        self._max_workers = 1
        self._subscriptions: dict[AbortSignal, _Subscription] = {}
        self._notified: deque[Stream] = deque()
        self._wakeup_pending = False
        self._start_pending = False
        self.now = 0.0  # the coarse clock
        self._clock_users = 0
        self._is_ticking = False
        self._blocked_at = self._unblocked_at = -math.inf
        self._cancel_tick: Cancel = do_nothing

    @classmethod
    def current(cls) -> "PingScheduler":
        """Return the running event loop's scheduler. It lives as long as the loop."""
        holder = _HOLDER.get(None)
        if holder is None:
            holder = Holder()
            _HOLDER.set(holder)
        scheduler = holder.reference()
        if scheduler is None:
            holder.idle = scheduler = cls(current_loop(), holder)
            holder.reference = weakref.ref(scheduler)
        return scheduler

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, stream: Stream, when: float) -> None:
        """Register a stream: poll it at `when`, and check its signals when one is aborted."""
        if not self._queue:
            self._hold(None)
        self._queue.schedule(stream, when, stream.slack)
        signal = stream.stop_signal
        subscription = self._subscriptions.get(signal)
        if subscription is None:
            subscription = self._subscriptions[signal] = _Subscription(self, signal)
        subscription.streams += 1
        self._set_timer()

    def reschedule(self, stream: Stream, when: float) -> None:
        """Poll a registered stream at another time."""
        self._queue.schedule(stream, when, stream.slack)
        self._set_timer()

    def remove(self, stream: Stream) -> None:
        """Unregister a stream. An unknown one is ignored."""
        if self._queue.cancel(stream):
            signal = stream.stop_signal
            subscription = self._subscriptions[signal]
            subscription.streams -= 1
            if not subscription.streams:
                subscription.cancel()
                del self._subscriptions[signal]
            if not self._queue:
                self._set_timer()
                self._hold_if_idle()

    def _hold_if_idle(self, turns: int = LOOP_TURNS_OF_CANCELLATION) -> None:
        """Make the holder hold it, as soon as it refers to nothing that refers to the loop."""
        if self._queue:
            return
        if not (self.loop.has_tasks or self._notified):
            self._hold(self)
        elif turns:
            self.loop.call_soon(partial(self._hold_if_idle, turns - 1))

    def _hold(self, scheduler: "PingScheduler | None") -> None:
        holder = None if self._holder is None else self._holder()
        if holder is not None:  # otherwise the event loop no longer exists
            holder.idle = scheduler

    # The coarse clock

    def use_coarse_clock(self) -> None:
        """Keep `now` up to date for one more stream, to CLOCK_RESOLUTION."""
        self._clock_users += 1
        if self._clock_users == 1:
            self._tick()
        else:
            self.now = self.time()

    def leave_coarse_clock(self) -> None:
        """Undo `use_coarse_clock`."""
        self._clock_users -= 1
        if not self._clock_users:
            self._cancel_tick()
            self._cancel_tick = do_nothing
            self._is_ticking = False

    def corrected(self, when: float) -> float:
        """Return a time that was read from the coarse clock, as late as it may have been.

        It differs if the event loop was blocked when it was read. Only the last time that this
        happened is known.
        """
        return self._unblocked_at if when == self._blocked_at else when

    def _tick(self) -> None:
        before, self.now = self.now, self.time()
        if self.now - before > 2 * CLOCK_RESOLUTION and self._is_ticking:
            self._blocked_at, self._unblocked_at = before, self.now
        self._is_ticking = True
        self._cancel_tick = self.loop.call_at(self.now + CLOCK_RESOLUTION, self._tick)

    # Notifications

    def notify(self, stream: Stream) -> None:
        """Schedule a signal check for a stream. Thread-safe and signal-safe; takes no lock."""
        self._notified.append(stream)
        if not self._wakeup_pending:
            self._wakeup_pending = True
            self.loop.wake(self._run_notifications)

    def notify_all(self, signal: AbortSignal) -> None:
        """Schedule a signal check for all streams that a signal stops. Thread-safe."""
        self.loop.wake(lambda: self._notify_all(signal))

    def _notify_all(self, signal: AbortSignal) -> None:
        self._notified.extend(stream for stream in self._queue if stream.stop_signal is signal)
        self._run_notifications()

    def _run_notifications(self) -> None:
        self._wakeup_pending = False
        for _ in range(min(BATCH, len(self._notified))):
            stream = self._notified.popleft()
            stream.context.run(stream.check_signals)
        if self._notified and not self._wakeup_pending:
            self._wakeup_pending = True
            self.loop.call_soon(self._run_notifications)

    # The timer

    def _set_timer(self) -> None:
        """Set the one timer to the first deadline; between rounds only."""
        when = None if self._round_active else self._queue.next_at()
        if when is not None:
            when = max(when, self._retry_at)
        if self._timer is not None and when != self._timer_at:
            self._timer()
            self._timer = None
        if self._timer is None and when is not None:
            self._timer_at = when
            self._timer = self.loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._check_lateness()
        self._round_active = True
        self._coalescing = False
        self._max_workers = 1
        # Two turns later: in the first, what the app waits for wakes its task; in the second,
        # the app sends.
        self.loop.call_soon(self._start_workers_soon)

    def _check_lateness(self) -> None:
        """Warn if the timer has fired late, and so the pings were late."""
        now = self.time()
        lateness = now - self._timer_at
        if lateness > MAX_LATENESS and now >= self._silent_until:
            self._silent_until = now + WARNING_INTERVAL
            LOGGER.warning(
                "pings were late: the event loop was blocked, or the process was suspended, "
                "for %.1f s",
                lateness,
                extra={"seconds": lateness},
            )

    # Workers

    @property
    def batch(self) -> int:
        """How many streams one worker may poll."""
        return BATCH // self._max_workers

    def _start_workers_soon(self) -> None:
        """Start workers in the next turn of the loop; once, however often it is called."""
        if not self._start_pending:
            self._start_pending = True
            self.loop.call_soon(self._start_workers)

    def _start_workers(self) -> None:
        self._start_pending = False
        # The number is fixed before the first one starts: with eager tasks, a worker may be
        # blocked, and so no longer count, before its constructor returns.
        for _ in range(self._max_workers - self._workers):
            if self._first_due(self.time()) is None or not self._start_worker():
                break
        if not self._workers:
            self._round_active = False
            self._set_timer()

    def _start_worker(self) -> bool:
        self._workers += 1
        try:
            _Worker(self)
        except Exception:
            # A task factory of the user's, for example, that accepts no context.
            self._workers -= 1
            self._retry_at = self.time() + RETRY_DELAY
            LOGGER.exception("a task could not be started, pings are late")
            return False
        return True

    def worker_blocked(self) -> None:
        """Called when a worker's ping blocks: more workers take over than before."""
        self._workers -= 1
        self._max_workers = min(2 * self._max_workers, BATCH)
        self._start_workers_soon()

    def worker_done(self) -> None:
        """Called when a worker has ended that was not blocked."""
        self._workers -= 1
        self._start_workers_soon()

    def _first_due(self, now: float) -> Stream | None:
        queue = self._queue
        return queue.next_due_soon(now) if self._coalescing else queue.next_due(now)

    def poll_next(self, now: float) -> tuple[Stream, PollResult] | None:
        """Poll the next stream that is due, and reschedule it; `None` when none is due."""
        queue = self._queue
        # As `_first_due`, but for the rest of a bucket, which is the usual case.
        stream: Stream | None = queue.rest_of_current() or self._first_due(now)
        if stream is None:
            return None
        slack = stream.slack
        early = slack if self._coalescing or slack < TIMER_ERROR else TIMER_ERROR
        result, when = stream.poll(now, now + early)
        # The poll may have removed the stream: a server may raise an error at once, and with
        # eager tasks it may report a disconnect at once.
        if stream._prev is not None:
            queue.schedule(stream, when, slack)
        if result is not NOT_DUE:
            self._coalescing = True
        return stream, result


class Holder:
    """Holds an event loop's scheduler while that has no streams.

    anyio's `RunVar` refers to the holder for as long as the loop exists; the holder must not
    refer to the loop by any path, or both would exist forever. An idle scheduler does not:
    one without streams and tasks. One with streams is held by those, and by its timer.
    """

    __slots__ = ("__weakref__", "idle", "reference")

    idle: PingScheduler | None
    """The scheduler while it has no streams."""

    def __init__(self) -> None:
        self.idle = None
        self.reference: Callable[[], PingScheduler | None] = lambda: None


class _Subscription:
    """One callback on a signal, for all the streams of an event loop that it stops.

    The signal refers to it weakly, since it outlives event loops.
    """

    __slots__ = ("__weakref__", "_callback", "_scheduler", "_signal", "streams")

    def __init__(self, scheduler: PingScheduler, signal: AbortSignal) -> None:
        self.streams = 0
        self._scheduler = scheduler
        self._signal = signal
        self._callback = WeakCallback(signal, self._on_abort)
        signal.add_callback(self._callback)

    def _on_abort(self) -> None:
        self._scheduler.notify_all(self._signal)

    def cancel(self) -> None:
        self._signal.remove_callback(self._callback)


class _Worker:
    """A task that polls due streams, until none is due or a ping blocks it."""

    __slots__ = ("_blocked", "_cancel", "_scheduler", "_stream")

    def __init__(self, scheduler: PingScheduler) -> None:
        self._scheduler = scheduler
        self._blocked = False
        self._stream: Stream  # whose ping it is sending
        self._cancel: Cancel | None = None  # an eager task begins before this is known
        self._cancel = scheduler.loop.spawn(self._run, Context(), self._done)

    async def _run(self) -> None:
        scheduler = self._scheduler
        now = scheduler.time()
        for _ in range(scheduler.batch):
            polled = scheduler.poll_next(now)
            if polled is None:
                return
            self._stream, result = polled
            if isinstance(result, tuple):
                await run_in(*result, self._on_blocked)
                if self._blocked:
                    return

    def _on_blocked(self) -> None:
        self._blocked = True
        self._stream.ping_blocked(self._abort)
        self._scheduler.worker_blocked()

    def _abort(self) -> None:
        if self._cancel is not None:
            self._cancel()

    def _done(self) -> None:
        self._cancel = None  # its task's error may refer to this worker
        if not self._blocked:
            self._scheduler.worker_done()


_HOLDER: Final[RunVar[Holder]] = RunVar("keepalive scheduler")
"""The key of each event loop's own scheduler; it holds no state itself."""
