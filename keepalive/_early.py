"""An early start: a stream that the middleware starts when its app takes too long.

Law: starts a response in the app's place at most once, and answers for what the app then says
too late. What a stream is, and how it ends, is none of its business.
"""

from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, Literal, TypeAlias

import anyio
from typing_extensions import override

from ._asgi import (
    BODY,
    PATH_SEND,
    START,
    ZERO_COPY_SEND,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
)
from ._backend import Cancel
from ._bounds import BoundedStream
from ._head import ANTI_BUFFERING, lowered
from ._heart import Heart
from ._late import LateResponse
from ._observe import LOGGER, StopReason
from ._policy import STEP, early_policy
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

_BODIES: Final = (BODY, PATH_SEND, ZERO_COPY_SEND)


class EarlyStream(BoundedStream):
    """A stream that may be started in its app's place."""

    __slots__ = (
        "_cancel_start",
        "_context",
        "_given",
        "_has_begun",
        "_heart",
        "_is_late",
        "_late",
        "_media_type",
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
        self._given = choice
        self._heart = Heart.current()
        self._context = copy_context()
        self._stage: Stage = WAITING
        self._is_late = False  # time is up, but the client is still sending
        self._has_begun = anyio.Event()
        when = self._heart.time() + (self._policy.start_after or 0.0)
        self._cancel_start: Cancel = self._heart.loop.call_at(when, self._begin)
        added = ANTI_BUFFERING if self._policy.headers else ()
        self._late = LateResponse(media_type, lowered([*self._head, *added]))

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
        self._is_late = True
        if self._stage is not WAITING or self._choice is None:
            return
        if self._more_body or self.gone or not self.alive or self.is_open:
            return
        self._stage = STARTING
        policy = early_policy(self._policy, self._media_type)
        self._choice = self._given._replace(policy=policy)
        spawn = self._heart.loop.spawn
        self._cancel_start = spawn(self._start_early, self._context, self._has_started)

    async def _start_early(self) -> None:
        try:
            await super().send({"type": START, "status": 200, "headers": self._head})
        except Exception as error:  # the app meets its own error at its own start
            LOGGER.debug("a response could not be started in its app's place", exc_info=error)

    def _has_started(self) -> None:
        self._cancel_start = (
            _nothing  # of a task whose error's traceback refers to this stream
        )
        if self._pulse is not None:
            self._stage = STARTED
        else:  # the server has not taken it
            self._stage = OWN
            self._choice = self._choice and self._given
        self._has_begun.set()

    @override
    async def receive(self) -> Message:
        message = await super().receive()
        if self._is_late:  # perhaps nothing but an upload has stood in the way
            self._begin()
        return message

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
            kind = message.get("type")
            if kind == BODY or (kind == START and message.get("status", 200) >= 200):
                self._stage = OWN
        if self._stage in (WAITING, OWN):
            return super().send(message)
        return self._send_late(message)

    async def _send_late(self, message: Message) -> None:
        if self._stage is STARTING:
            await self._has_begun.wait()
        self._check()
        kind: Any = message.get("type")
        if self._stage is OWN:
            await super().send(message)
        elif self._stage is STARTED:
            self._hear_late(message)
        elif self._stage is GOING and kind in _BODIES:
            await super().send(message)
        elif self._stage is HELD and kind in _BODIES:
            await self._hold(message)

    def _hear_late(self, message: Message) -> None:
        """Take the app's start, which comes too late to be sent."""
        kind = message.get("type")
        if kind in _BODIES:
            raise RuntimeError(f"http.response.start must come before {kind}")
        if kind != START or message.get("status", 200) < 200:
            return
        self._late.begin(message)
        self._stage = GOING if self._late.fits else HELD
        if self._late.fits and self._late.lost:
            self._around.warn_lost(self._given.route, self._late.lost)

    async def _hold(self, message: Message) -> None:
        """Keep what the app sends; at its end, or when that is enough, tell the client."""
        enough = self._late.feed(message.get("body", b""))
        if enough or not message.get("more_body", False):
            await self._tell()

    async def _tell(self) -> None:
        self._stage = TOLD
        await super().send({"type": BODY, "body": self._late.told, "more_body": False})
        self.over = True

    async def _answer(self, error: Exception | None = None) -> None:
        """Tell the client what came, if the app has not been able to."""
        with anyio.move_on_after(STEP):
            if self._stage is STARTING:
                await self._has_begun.wait()
            if self._stage not in (STARTED, HELD) or self.over or self.ended:
                return
            if error is not None:
                self.stop(StopReason.APP_FAILED, error)
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
        super().close(reason, error)


def _nothing() -> None:
    """Do nothing, when a start is over."""
