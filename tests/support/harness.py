"""A world on a virtual clock: a scripted app, a scripted server, and what passed between.

Time passes only when nothing is left to do; nothing here sleeps in real time.

A test reads as a timeline: `play(backend, [(20, b"data: x\n\n"), (40, END)])` runs an app that
sends those bytes at those times under `KeepaliveMiddleware`, and its `.timeline` is what the
server was handed, and when.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import anyio
import trio
import trio.testing
from support.internals import _HOLDER, PingScheduler, _JumpingSelector, _VirtualLoop

from keepalive import KeepaliveMiddleware, StreamEnded

PING: Final = b"event: ping\ndata: \n\n"
START: Final = "start"
END: Final = "end"
SSE: Final = [(b"content-type", b"text/event-stream; charset=utf-8")]
BACKENDS: Final = ["asyncio", "trio"]
BROWSER: Final = [
    (b"host", b"127.0.0.1:8000"),
    (b"connection", b"keep-alive"),
    (b"sec-ch-ua", b'"Chromium";v="156", "Not(A:Brand";v="24"'),
    (b"sec-ch-ua-mobile", b"?0"),
    (b"sec-ch-ua-platform", b'"Linux"'),
    (b"upgrade-insecure-requests", b"1"),
    (
        b"user-agent",
        (
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
            b"Chrome/156.0.0.0 Safari/537.36"
        ),
    ),
    (
        b"accept",
        (
            b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
            b"image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
        ),
    ),
    (b"sec-fetch-site", b"none"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-user", b"?1"),
    (b"sec-fetch-dest", b"document"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-US,en;q=0.9"),
]
"""The headers of Chromium when a stream's address is opened in it.

It accepts anything, but does not ask for an event stream by name as an `EventSource` does.
"""

Steps = Sequence[tuple[float, Any]]
Main = Callable[[], Awaitable[Any]]


class DeadlockError(AssertionError):
    """Everybody waits, and nothing can wake them."""


class _DeadlockDetector(_JumpingSelector):
    """Raises if no timer is due, and no other thread wakes the loop either."""

    now = 1000.0
    patience = 5.0  # seconds of real time that another thread is given

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().select(timeout)
        events = selectors.DefaultSelector.select(self, self.patience)
        if not events:
            raise DeadlockError
        return events


class VirtualLoop(_VirtualLoop):
    """The loop of `keepalive.testing`, which detects deadlocks too."""

    def __init__(self) -> None:
        super().__init__(_DeadlockDetector)


def run(backend: str, main: Main) -> Any:
    """Run a coroutine function in virtual time."""
    if backend == "trio":
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def scheduled_streams() -> int:
    """Return how many streams the running loop's scheduler has."""
    holder = _HOLDER.get(None)
    scheduler: PingScheduler | None = None if holder is None else holder.reference()
    return 0 if scheduler is None else len(scheduler)


def tasks_left() -> int:
    """Return how many tasks there are besides the caller's."""
    if asyncio_running():
        return len(asyncio.all_tasks()) - 1
    # main task, init task and the task that runs what other threads send
    return trio.lowlevel.current_statistics().tasks_living - 3


def asyncio_running() -> bool:
    """Whether the caller runs on asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def settle() -> None:
    """Run everything that can run now."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


class World:
    """A server and a client, and a record of what they were sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, Mapping[str, Any]]] = []
        self.events: list[Any] = []
        self.requests: list[Mapping[str, Any]] = [
            {"type": "http.request", "body": b"", "more_body": False}
        ]
        self.asked = 0
        self.readers = 0
        self.leave_at = float("inf")
        self.failing: Callable[[Mapping[str, Any]], BaseException | None] = lambda _: None
        self.slow: Callable[[Mapping[str, Any]], float] = lambda _: 0.0
        self.violations: list[str] = []
        self._sending = 0
        self._began = anyio.current_time()
        self._done = anyio.Event()

    def now(self) -> float:
        """Return the seconds since the world began."""
        return round(anyio.current_time() - self._began, 6)

    async def sleep_until(self, when: float) -> None:
        """Sleep until so many seconds after the world began."""
        await anyio.sleep(self._began + when - anyio.current_time())

    async def receive(self) -> Mapping[str, Any]:
        """Return the next request; when the client has left or has all, the disconnect."""
        self.asked += 1
        if self.requests:
            return self.requests.pop(0)
        self.readers += 1
        if self.readers != 1:  # noted, since whoever asks may swallow an error
            self.violations.append("two readers of the server's receive")
        try:
            with anyio.move_on_after(self._began + self.leave_at - anyio.current_time()):
                await self._done.wait()
        finally:
            self.readers -= 1
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Accept a message as a server does: slowly, or with an error, if so configured."""
        self._sending += 1
        if self._sending != 1:
            self.violations.append("two sends at once")
        try:
            if delay := self.slow(message):
                await anyio.sleep(delay)
            if error := self.failing(message):
                raise error
            self.sent.append((self.now(), message))
        finally:
            self._sending -= 1
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._done.set()

    @property
    def timeline(self) -> list[tuple[float, Any]]:
        """What was sent, and when: `START`, bodies, `END`."""
        line: list[tuple[float, Any]] = []
        for when, message in self.sent:
            if message["type"] == "http.response.start":
                line.append((when, START))
                continue
            if message.get("body", b""):
                line.append((when, bytes(message["body"])))
            if not message.get("more_body", False):
                line.append((when, END))
        return line

    @property
    def pings(self) -> list[float]:
        """When pings were sent."""
        return [when for when, body in self.timeline if body == PING]

    @property
    def body(self) -> bytes:
        """The whole body of the response."""
        return b"".join(bytes(message.get("body", b"")) for _, message in self.sent)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the response."""
        return list(self.sent[0][1]["headers"])

    @property
    def ended(self) -> StreamEnded:
        """The one report of a stream's end."""
        (event,) = [event for event in self.events if isinstance(event, StreamEnded)]
        return event


def http(path: str = "/", **scope: Any) -> dict[str, Any]:
    """Return the scope of an HTTP request; a browser's GET, unless told otherwise."""
    base = {"type": "http", "method": "GET", "path": path, "root_path": ""}
    return base | {"headers": [*BROWSER]} | scope


def start(headers: Any = SSE, status: int = 200) -> dict[str, Any]:
    """Return a start message; a stream's by default."""
    return {"type": "http.response.start", "status": status, "headers": headers}


HEAD: Final = start()


def body(data: Any = b"", *, more: bool = True) -> dict[str, Any]:
    """Return a body message."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def scripted(world: World, steps: Steps, head: Mapping[str, Any] | None) -> Any:
    """Return an app that sends its head at once, if it has one, and bodies at the times given.

    A step may also be a message, or a function of `(scope, receive, send)`.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if head is not None:
            await send(head)
        for when, what in steps:
            if world.now() < when:
                await world.sleep_until(when)
            if callable(what):
                await what(scope, receive, send)
            elif isinstance(what, Mapping):
                await send(what)
            elif what == END:
                await send({"type": "http.response.body"})
            else:
                await send(body(what))

    return app


def play(
    backend: str,
    steps: Steps,
    *,
    scope: dict[str, Any] | None = None,
    head: Mapping[str, Any] | None = HEAD,
    at: Sequence[tuple[float, Callable[[], Any]]] = (),
    prepare: Callable[[World], Any] = lambda _: None,
    wrap: Callable[..., Any] = KeepaliveMiddleware,
    raises: type[BaseException] | None = None,
    **options: Any,
) -> World:
    """Serve one request to a scripted app, and check that nothing is left behind.

    Args:
        backend: `"asyncio"` or `"trio"`.
        steps: What the app sends, and when.
        scope: The request's; a GET of `/`.
        head: The app's start message; an SSE response's. `None`: it is among the steps.
        at: What else happens, and when.
        prepare: Sets the world up before anything happens.
        wrap: What makes the middleware.
        raises: What the call is to raise.
        **options: The middleware's.
    """

    async def main() -> World:
        world = World()
        prepare(world)
        options.setdefault("observer", world.events.append)
        app = wrap(scripted(world, steps, head), **options)

        async def later(when: float, what: Callable[[], Any]) -> None:
            await world.sleep_until(when)
            what()

        async with anyio.create_task_group() as others:
            for when, what in at:
                others.start_soon(later, when, what)
            try:
                await app(scope if scope is not None else http(), world.receive, world.send)
            except BaseException as error:
                if raises is None or type(error) is not raises:
                    raise
            else:
                assert raises is None, f"{raises} was not raised"
            others.cancel_scope.cancel()
        for _ in range(3):  # an end by an outer middleware reaches the inner ones later
            await settle()
        assert scheduled_streams() == 0
        assert tasks_left() == 0
        assert world.violations == []
        return world

    return run(backend, main)
