"""An early start: a stream that the middleware starts when its app takes too long.

Law: starts a response in the app's place at most once, and answers for what the app then says
too late. What a stream is, and how it ends, is none of its business.
"""

from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context
from typing import Final, Literal, TypeAlias, cast

import anyio
from typing_extensions import override

from ._abort import AbortSignal
from ._asgi import BODY, START, ASGIApp, Message, Receive, Scope, Send
from ._backend import Cancel
from ._bounds import BoundedStream
from ._frames import Ping
from ._head import ANTI_BUFFERING
from ._heart import Heart
from ._late import LateResponse, is_informational
from ._observe import LOGGER, StopReason
from ._policy import STEP, early_policy
from ._request import announces_body, less_whole_bodies
from ._routes import Choice
from ._surroundings import Surroundings

Stage: TypeAlias = Literal["waiting", "own", "starting", "started", "going", "held", "told"]

WAITING: Final = "waiting"
OWN: Final = "own"
"""The app has started its response itself."""
STARTING: Final = "starting"
STARTED: Final = "started"
"""The middleware has started the response, and the app has yet to."""
GOING: Final = "going"
"""What the app sends goes on as the body of what was started."""
HELD: Final = "held"
"""What the app sends is another response, kept to be told."""
TOLD: Final = "told"
"""The client has been told what came, and that was the end."""


class EarlyStream(BoundedStream):
    """A stream that may be started in its app's place."""

    __slots__ = (
        "_cancel_start",
        "_context",
        "_extensions",
        "_has_begun",
        "_has_heard",
        "_heart",
        "_is_due",
        "_late",
        "_media_type",
        "_own_choice",
        "_own_signal",
        "_passing_on",
        "_stage",
    )

    def __init__(
        self,
        around: Surroundings,
        choice: Choice,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        media_type: str,
    ) -> None:
        super().__init__(around, choice, scope, receive, send)
        self._media_type = media_type
        self._own_choice = choice
        self._own_signal: tuple[AbortSignal | None, ...] = ()  # when it has been asked for
        self._heart = Heart.current()
        self._context = copy_context()
        self._stage: Stage = WAITING
        self._is_due = self._has_heard = False  # of the start; of the request's body
        self._passing_on = 0  # messages of the app's from before its start
        self._has_begun = anyio.Event()
        self._extensions: object = scope.get("extensions")
        less_whole_bodies(scope)
        when = self._heart.time() + cast("float", self._policy.start_after)
        self._cancel_start: Cancel = self._heart.loop.call_at(when, self._begin)
        added = ANTI_BUFFERING if self._policy.headers else ()
        self._late = LateResponse(media_type, [*self._head, *added])

    @property
    def _head(self) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", self._media_type.encode())]

    @override
    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app; should it fail to answer, do it in its place."""
        try:
            await super().serve(app, scope, receive, send)
        except Exception as error:
            await self._answer(error)
            raise
        await self._answer()

    # The start

    def _begin(self) -> None:
        """Start the response, if nobody has, and if it may still be."""
        self._is_due = True
        if self._stage is not WAITING or self._choice is None:
            return
        if self._passing_on or self._is_uploading or not self.alive:
            return
        signal = self._context.run(self._ask_for_signal)
        if (signal is not None and signal.aborted) or not self._takes_over():
            return
        self._stage = STARTING
        policy = early_policy(self._policy, self._media_type)
        self._choice = self._own_choice._replace(policy=policy)
        spawn = self._heart.loop.spawn
        self._cancel_start = spawn(self._start_early, self._context, self._has_started)

    @property
    def _is_uploading(self) -> bool:
        """Whether the app is reading the request's body; some clients hear nothing before."""
        awaits_it = self._reading and not self._has_heard and announces_body(self._scope)
        return self._more_body or awaits_it

    async def _start_early(self) -> None:
        try:
            await super().send({"type": START, "status": 200, "headers": self._head})
        except Exception as error:  # the app meets its own error at its own start
            LOGGER.debug("a response could not be started in its app's place", exc_info=error)

    def _has_started(self) -> None:
        # Of a task that is over: its error's traceback refers to this stream.
        self._cancel_start = _nothing
        if self._pulse is not None:
            self._stage = STARTED
        else:  # the server has not taken it
            self._stage = OWN
            self._choice = self._choice and self._own_choice
        self._has_begun.set()

    @override
    async def receive(self) -> Message:
        message = await super().receive()
        self._has_heard = True
        if self._is_due:  # perhaps nothing but an upload has stood in the way
            self._begin()
        return message

    @override
    def on_disconnect(self) -> None:
        if self._stage is STARTING:
            self._cancel_start()
        super().on_disconnect()

    @override
    def step_aside(self) -> bool:
        return self._stage in (WAITING, OWN) and super().step_aside()

    @override
    def _ask_for_signal(self) -> AbortSignal | None:
        self._own_signal = self._own_signal or (super()._ask_for_signal(),)
        return self._own_signal[0]

    @property
    @override
    def started_by(self) -> Literal["app", "middleware"]:
        return "app" if self._stage in (WAITING, OWN) else "middleware"

    @property
    @override
    def late_status(self) -> int | None:
        return self._late.status

    # What the app says

    @override
    def send(self, message: Message) -> Awaitable[None]:
        if self._stage is WAITING:
            if message.get("type") != START or is_informational(message):
                return self._send_ahead(message)
            self._stage = OWN
        if self._stage is OWN:
            return super().send(message)
        return self._send_late(message)

    async def _send_ahead(self, message: Message) -> None:
        """Pass on what may come before a start; that is never sent beside another message."""
        self._passing_on += 1
        try:
            await super().send(message)
        finally:
            self._passing_on -= 1
        if self._is_due:
            self._begin()

    async def _send_late(self, message: Message) -> None:
        if self._stage is STARTING:
            await self._has_begun.wait()
        self._check()
        kind = message.get("type")
        if self._stage is OWN:
            await super().send(message)
        elif kind == START:
            self._hear_start(message)
        elif kind == BODY:
            await self._send_body(message)
        # All else is of an extension, and of a response that never was.

    def _hear_start(self, message: Message) -> None:
        """Take the app's start, which comes too late to be sent."""
        if self._stage is not STARTED:
            raise RuntimeError("http.response.start must come once")
        if is_informational(message):
            return
        late = self._late
        late.begin(message)
        self._stage = GOING if late.fits else HELD
        if late.fits and late.lost:
            self._around.warn_lost(self._own_choice.route, late.lost)
        if late.encoded:
            self._around.warn_compressed(self._own_choice.route)

    async def _send_body(self, message: Message) -> None:
        last = not message.get("more_body", False)
        if self._stage is STARTED:
            raise RuntimeError("http.response.start must come before http.response.body")
        if self._stage is TOLD:
            raise self._gone_error
        if self._stage is HELD:
            await self._hold(message, last=last)
        elif last and self._late.needs_body and self._pulse and self._pulse.untouched:
            await super().send({**message, "body": message.get("body") or self._late.told})
        else:
            await super().send(message)

    async def _hold(self, message: Message, *, last: bool) -> None:
        """Keep what the app sends; at its end, or when that is enough, tell the client."""
        enough = self._late.feed(message.get("body", b""))
        if not (enough or last):
            return
        try:
            await self._tell()
        finally:
            if last:
                self.over = True
            else:  # the app goes on, and nobody listens
                self._leave()

    async def _tell(self) -> None:
        self._stage = TOLD
        if not self.ended:
            await super().send({"type": BODY, "body": self._late.told, "more_body": False})

    @override
    async def _finish(self, farewell: Ping | None) -> None:
        if self._stage is HELD:  # better said in part than not at all
            self._stage = TOLD
            farewell = self._late.farewell
        await super()._finish(farewell)

    async def _answer(self, error: Exception | None = None) -> None:
        """Tell the client what came, if the app has not been able to."""
        with anyio.move_on_after(STEP):
            if self._stage is STARTING:
                await self._has_begun.wait()
            if self._stage not in (STARTED, HELD) or self.ended:
                return
            if error is not None:
                self.stop(StopReason.APP_FAILED, error)
            elif self._stage is STARTED:
                LOGGER.warning("an app has not answered", extra={"path": self._scope["path"]})
            with suppress(Exception):  # the server has the app's own error to tell of
                await self._tell()

    @override
    def close(
        self,
        reason: StopReason = StopReason.COMPLETED,
        error: BaseException | None = None,
    ) -> None:
        with suppress(RuntimeError):  # the loop may have been closed by now
            self._cancel_start()
        if self._extensions is not None:
            self._scope["extensions"] = self._extensions
        super().close(reason, error)


def _nothing() -> None:
    """Do nothing, when a start is over."""
