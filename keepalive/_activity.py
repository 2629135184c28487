"""What an app does with its `receive` and `send`: whether it listens, and when it last sent.

Both are observed at the app itself, so that what a middleware reads ahead or sends does not
count. Whether the app listens determines what it sees when its stream is ended (see
`_ending`); `max_silence` limits the time since it last sent a byte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ._boundary import has_data
from ._types import DISCONNECT, Message, Receive, Send, do_nothing

AppState: TypeAlias = Literal["not_listening", "polling", "notified"]

NOT_LISTENING: Final = "not_listening"
"""Its last `receive` returned another message, or was abandoned; or there was none."""
POLLING: Final = "polling"
"""Its last `receive` was cancelled, or timed out: it polls."""
NOTIFIED: Final = "notified"
"""One of its `receive` calls has returned `http.disconnect`."""


@dataclass(slots=True, eq=False)
class AppActivity:
    """Observes the calls of one app."""

    state: AppState = NOT_LISTENING
    _receives: int = 0
    """The number of its pending `receive` calls."""

    @property
    def is_listening(self) -> bool:
        """Whether the app will be notified of a disconnect by its `receive`."""
        return self.state is not NOT_LISTENING or self._receives > 0

    async def receive(self, receive: Receive) -> Message:
        """Return the app's next message, and observe the outcome of the call."""
        self._receives += 1
        try:
            message = await receive()
        except BaseException as error:
            abandoned = isinstance(error, Exception | GeneratorExit)
            if self.state is not NOTIFIED:
                self.state = NOT_LISTENING if abandoned else POLLING
            raise
        finally:
            self._receives -= 1
        if message.get("type") == DISCONNECT:
            self.state = NOTIFIED
        elif self.state is POLLING:
            self.state = NOT_LISTENING
        return message


@dataclass(slots=True, eq=False)
class Silence:
    """How long an app has not sent a byte. It pauses while a send is in progress.

    Times are in seconds, by the given clock.
    """

    _time: Callable[[], float]
    _since: float = 0.0
    """When it began, plus the time that sends have taken since."""
    _sends: int = 0
    """The number of sends in progress."""
    _send_began: float = 0.0
    """When the first of them began."""
    on_resumed: Callable[[], None] = do_nothing
    """Called when the last send in progress has ended."""

    def begin(self) -> None:
        """Count from now on: the response starts."""
        self._since = self._send_began = self._time()

    @property
    def is_paused(self) -> bool:
        """Whether a send is in progress."""
        return self._sends > 0

    def ends_at(self, limit: float, last_data: float) -> float:
        """Return when the silence reaches `limit` seconds, if nothing more is sent.

        Args:
            limit: The seconds.
            last_data: When the app last sent a byte, if that was not observed here.
        """
        return max(self._since, last_data) + limit

    def pause(self, last_data: float = 0.0) -> None:
        """Called when a send begins: the app's, or one that it may have to wait for.

        Args:
            last_data: When the app last sent a byte, if that was not observed here.
        """
        self._since = max(self._since, last_data)
        if not self._sends:
            self._send_began = self._time()
        self._sends += 1

    def resume(self, *, is_data: bool) -> None:
        """Called when that send has ended; `is_data`: whether it was of bytes of the app."""
        self._sends -= 1
        now = self._time()
        if is_data:
            self._since = self._send_began = now
        elif not self._sends:
            self._since += now - self._send_began
        if not self._sends:
            self.on_resumed()

    async def send(self, send: Send, message: Message) -> None:
        """Send a message of the app by a function that does not report it here."""
        self.pause()
        try:
            await send(message)
        finally:
            self.resume(is_data=has_data(message))
