"""Test what an app sends to a client, and when, on a virtual clock: `timeline`.

`import keepalive` does not import this module.
"""

import asyncio
import selectors
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast
from urllib.parse import unquote

import anyio
import anyio.to_thread
from typing_extensions import override

from ._eventloop import current_loop
from ._types import BODY, DISCONNECT, REQUEST, START, ASGIApp, Message, Scope

if TYPE_CHECKING:
    import trio

Sent: TypeAlias = int | bytes | Literal["end"]

__all__ = ["timeline"]

_APP_EXIT_TIMEOUT: Final = 60.0


def timeline(
    app: ASGIApp,
    path: str = "/",
    *,
    seconds: float = 60.0,
    at: Mapping[float, Callable[[], object]] | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    clock: "trio.abc.Clock | None" = None,
) -> list[tuple[float, Sent]]:
    """Run one request on a virtual clock, and return what was sent, and when.

    The clock stops while anything runs, and then jumps to whatever is due next. So a test of
    an hour takes milliseconds, and its result is always the same. On asyncio the clock waits
    for worker threads, too, but not for other processes: replace databases and other servers
    by test doubles. Lifespan events are not sent.

    An app that has not returned a minute after the client has disconnected is cancelled.

    Args:
        app: Any ASGI app.
        path: The request's path, with a query if there is one.
        seconds: When the client disconnects, if the response has not ended by then.
        at: Functions to call at the given seconds, without arguments, such as
            `controller.abort` or `middleware.shutdown`.
        method: The request's method.
        headers: The request's headers.
        body: The request's body.
        clock: A trio clock, to run on trio instead of asyncio:
            `trio.testing.MockClock(autojump_threshold=0)`.

    Returns:
        A list of pairs. The first item of each is a time in seconds since the request. The
        second is what was sent then, which is the status as an `int`, the `bytes` of a body
        message that is not empty, or `"end"` when the response was complete.

    Raises:
        RuntimeError: It was called in an event loop, for example by an `async` test.
        Exception: Whatever the app raised, or a function in `at`, unwrapped.
    """
    _refuse_in_a_loop()
    scope = _scope(path, method, headers or {}, body)

    async def serve() -> list[tuple[float, Sent]]:
        peer = _Peer(seconds, body)
        await peer.serve(app, scope, at or {})
        return peer.sent

    async def serve_on_asyncio() -> list[tuple[float, Sent]]:
        loop = cast("_VirtualLoop", asyncio.get_running_loop())
        loop.await_threads_of(anyio.to_thread.current_default_thread_limiter())
        return await serve()

    if clock is not None:
        # If there is a trio clock, trio has been imported. anyio 4.0 does not pass options on.
        sent: list[tuple[float, Sent]] = sys.modules["trio"].run(serve, clock=clock)
        return sent
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(serve_on_asyncio())


def _refuse_in_a_loop() -> None:
    try:
        current_loop()
    except RuntimeError:  # there is none
        return
    raise RuntimeError(
        "timeline runs its own event loop: in an async test, call it in a thread"
    )


def _scope(path: str, method: str, headers: Mapping[str, str], body: bytes) -> Scope:
    path, _, query = path.partition("?")
    own = {"host": "testserver"} | ({"content-length": str(len(body))} if body else {})
    given = {name.lower(): value for name, value in headers.items()}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in (own | given).items()],
        "client": ("testclient", 50000),
        "server": ("testserver", 80),
        "state": {},
    }


class _Peer:
    """A server with a single client, which disconnects after a while."""

    def __init__(self, seconds: float, body: bytes) -> None:
        self.sent: list[tuple[float, Sent]] = []
        self._began = anyio.current_time()
        self._leaves_at = self._began + seconds
        self._requests: list[Message] = [{"type": REQUEST, "body": body, "more_body": False}]
        self._over = anyio.Event()
        self._failures: list[Exception] = []

    async def serve(
        self, app: ASGIApp, scope: Scope, at: Mapping[float, Callable[[], object]]
    ) -> None:
        """Serve the request; raise the first error."""
        loop = current_loop()
        with anyio.CancelScope(deadline=self._leaves_at + _APP_EXIT_TIMEOUT) as block:
            for when, callback in at.items():
                loop.call_at(self._began + when, self._guarded(callback, block.cancel))
            await app(scope, self.receive, self.send)
        if self._failures:
            raise self._failures[0]

    def _guarded(
        self, callback: Callable[[], object], fail: Callable[[], object]
    ) -> Callable[[], None]:
        def call() -> None:
            try:
                callback()
            except Exception as error:
                self._failures.append(error)
                fail()

        return call

    async def receive(self) -> Message:
        if self._requests:
            return self._requests.pop()
        with anyio.CancelScope(deadline=self._leaves_at):
            await self._over.wait()
        return {"type": DISCONNECT}

    async def send(self, message: Message) -> None:
        now = anyio.current_time()
        if now >= self._leaves_at or self._over.is_set():
            return  # as servers do
        when = round(now - self._began, 6)
        if message["type"] == START:
            self.sent.append((when, int(message["status"])))
        elif message["type"] == BODY:
            if data := bytes(message.get("body", b"")):
                self.sent.append((when, data))
            if not message.get("more_body", False):
                self.sent.append((when, "end"))
                self._over.set()


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the clock to the next timer instead of waiting for it."""

    now = 0.0

    def __init__(self, busy: Callable[[], bool]) -> None:
        super().__init__()
        self._busy = busy

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or self._busy():
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.now += timeout
        return events


class _VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop on a virtual clock that stops while a thread is working."""

    def __init__(self, selector: type[_JumpingSelector] = _JumpingSelector) -> None:
        self._jumping = selector(self._threads_work)
        self._limiter: anyio.CapacityLimiter | None = None
        self._in_executors = 0
        super().__init__(self._jumping)

    @override
    def time(self) -> float:
        return self._jumping.now

    @override
    def run_in_executor(  # type: ignore[override]  # it takes all that asyncio's own does
        self, *args: Any, **named: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().run_in_executor(*args, **named)
        self._in_executors += 1
        future.add_done_callback(self._one_less)
        return future

    @override
    async def shutdown_default_executor(self, *args: Any, **named: Any) -> None:
        self._in_executors += 1  # otherwise the clock would skip the time that threads need
        await super().shutdown_default_executor(*args, **named)

    def _one_less(self, _: object) -> None:
        self._in_executors -= 1

    def await_threads_of(self, limiter: anyio.CapacityLimiter) -> None:
        self._limiter = limiter

    def _threads_work(self) -> bool:
        in_anyio = 0 if self._limiter is None else self._limiter.borrowed_tokens
        return bool(in_anyio or self._in_executors)
