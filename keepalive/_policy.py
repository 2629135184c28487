"""Policy: how one kind of stream is kept alive.

Law: values and plain functions, valid once built. Knows no clock, no event loop and no ASGI.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, TypedDict, cast, final

from ._frames import Boundary, Ping, boundary_in, is_spaces

Pacing: TypeAlias = Literal["idle", "steady"]
Placed: TypeAlias = tuple[Ping, Boundary]
Last: TypeAlias = tuple[Ping | None, Boundary]

LEAST_INTERVAL: Final = 0.001
"""Seconds; what is shorter than a loop's timers can tell apart would be a busy loop."""

STEP: Final = 1.0
"""Seconds that the end of a stream may take, until its app is cancelled."""

BOUNDS: Final = ("max_lifetime", "drain", "send_timeout")
"""The fields by which a policy may end a stream."""

EVENT_STREAM: Final = "text/event-stream"
JSON: Final = "application/json"

_DURATIONS: Final = (
    ("first", "at once"),
    ("max_lifetime", None),
    ("drain", "not at all"),
    ("send_timeout", None),
    ("start_after", None),
)
"""The fields, but `interval`, that are in seconds, and what 0 means of each."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)


class PolicyOptions(TypedDict, total=False):
    """The fields of `Policy` that `KeepaliveMiddleware` takes by name, but `interval`."""

    pacing: Pacing
    first: float | None
    ping: Ping
    formats: Mapping[str, Ping]
    headers: bool
    max_lifetime: float | None
    drain: float | None
    farewell: Ping | None
    send_timeout: float | None
    start_after: float | None
    start_as: str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a stream is kept alive. An immutable value, checked when it is built.

    Attributes:
        interval: Seconds; how long a stream may stay silent. Default 15, which clears every
            idle limit of 20 s and more; at least 0.001 and finite.
        pacing: `"idle"` (default): ping after `interval` seconds in which nothing was sent;
            the app's own bytes count. `"steady"`: ping every `interval` seconds whatever the
            app sends, on a fixed grid from the first ping; what was missed is left out.
        first: Seconds from the response's start to the first ping; 0: at once, for proxies
            that hold the headers back until the first body byte. Default `None`: `interval`.
            In idle pacing bytes of the app's own take the first ping's place.
        ping: What is injected into `text/event-stream`. Default `Ping.event()`.
        formats: Further media types and their pings, opt-in: for example
            `{"application/x-ndjson": Ping.space()}`. Default none.
        headers: Whether a stream that is kept alive gets `X-Accel-Buffering: no` and
            `Cache-Control: no-cache, no-transform`, each only where the app set none.
            Default `True`.
        max_lifetime: Seconds after which the stream is ended, so that its client reconnects.
            Each stream gets a random 80 to 100 % of it, so that they don't come back
            together. Default `None`: never.
        drain: Seconds that the app may go on after an abort or a shutdown; 0: not at all.
            Then the stream is ended. Default `None`: the stream is the app's own business.
            Of streams that are stopped together each ends at a random time in the second
            half of these seconds; one that stands alone, or whose app has asked for its
            `stream(scope).signal`, has all of them.
        farewell: What is sent just before the middleware ends a stream. Needs `drain` or
            `max_lifetime`. In other formats than `text/event-stream` only where it fits in:
            it must stand at a line, or the format's own ping at an event. Default none.
        send_timeout: Seconds that one write may block; past it the client counts as gone.
            Default `None`: for ever. A server that never has a send wait can't be timed.
        start_after: Seconds, from the request, that the app may take to start its response.
            Then the middleware starts it in the app's place, with status 200, `start_as` and
            a ping. Status and headers of the app's own then come too late. Default `None`:
            the start is the app's. HEAD, OPTIONS, conditional, range and `Expect` requests
            are always left alone.
        start_as: The media type of such a start: `"text/event-stream"`, a type in `formats`,
            or `"application/json"`, whose ping is `Ping.space()`. Default `None`:
            `text/event-stream`, for requests alone whose `Accept` names it. Needs
            `start_after`.

    Raises:
        ValueError: A value is out of range; the message names field, rule and value.
        TypeError: A value is of the wrong type; the message names field, rule and value.

    Example:
        >>> chat = Policy(interval=5, ping=Ping.comment())
        >>> chat.interval
        5.0
        >>> from dataclasses import replace
        >>> replace(chat, drain=10.0).ping is chat.ping
        True
        >>> Policy(interval=0)
        Traceback (most recent call last):
        ValueError: interval must be above 0 (at least 0.001) and finite (seconds), got 0
    """

    interval: float = 15.0
    pacing: Pacing = "idle"
    first: float | None = None
    ping: Ping = Ping.event()
    formats: Mapping[str, Ping] = field(default_factory=dict[str, Ping], hash=False)
    headers: bool = True
    max_lifetime: float | None = None
    drain: float | None = None
    farewell: Ping | None = None
    send_timeout: float | None = None
    start_after: float | None = None
    start_as: str | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("interval", seconds("interval", self.interval))
        for name, zero in _DURATIONS:
            if (value := getattr(self, name)) is not None:
                put(name, seconds(name, value, zero=zero))
        if self.pacing not in ("idle", "steady"):
            raise ValueError(f'pacing must be "idle" or "steady", got {self.pacing!r}')
        if not isinstance(self.headers, bool):
            raise TypeError(f"headers must be True or False, got {self.headers!r}")
        put("ping", _ping("ping", self.ping))
        put("formats", _formats(self.formats))
        if self.farewell is not None:
            _ping("farewell", self.farewell)
            if self.drain is None and self.max_lifetime is None:
                raise ValueError(
                    "farewell needs drain or max_lifetime: without them nothing ends a "
                    f"stream, got {self.farewell!r}"
                )
        put("start_as", _start_as(self))


def placed_ping(policy: Policy, media_type: str) -> Placed | None:
    """Return the ping for a media type, and the boundary it needs there.

    `None` for a type that is not to be touched.
    """
    event_stream = media_type == EVENT_STREAM
    ping = policy.ping if event_stream else policy.formats.get(media_type)
    return None if ping is None else (ping, boundary_in(media_type, ping))


def placed_farewell(policy: Policy, media_type: str, placed: Placed) -> Last:
    """Return the farewell for a media type, and the boundary that its streams may end at.

    Args:
        policy: The stream's policy.
        media_type: The response's.
        placed: Its ping, and the boundary which that needs.
    """
    if media_type == EVENT_STREAM:
        return policy.farewell, "event"
    farewell, boundary = policy.farewell, placed[1]
    if farewell is not None and (farewell.at, boundary) == ("event", "line"):
        farewell = None
    return farewell, boundary


def is_bounded(policy: Policy) -> bool:
    """Whether anything but its app, its client or an owner may end a stream."""
    return any(getattr(policy, name) is not None for name in BOUNDS)


def early_policy(policy: Policy, media_type: str) -> Policy:
    """Return the policy of a stream that is started in the app's place, with a ping."""
    formats = policy.formats
    if media_type == JSON and JSON not in formats:
        formats = {**formats, JSON: Ping.space()}
    return replace(policy, first=0.0, formats=formats)


def seconds(name: str, value: object, *, zero: str | None = None) -> float:
    """Return a duration as `float`.

    Args:
        name: The field, for the message.
        value: What was given.
        zero: What 0 means; `None` where it means nothing.

    Raises:
        ValueError: Not finite, negative, or a 0 that means nothing.
        TypeError: No number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "; hands off is None in routes, in a policy's place" if value is None else ""
        raise TypeError(f"{name} must be a number of seconds, got {value!r}{hint}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < (LEAST_INTERVAL if zero is None else 0):
        rule = (
            f"above 0 (at least {LEAST_INTERVAL})" if zero is None else f"0 ({zero}) or above"
        )
        raise ValueError(f"{name} must be {rule} and finite (seconds), got {value!r}")
    return number


def _ping(name: str, ping: object) -> Ping:
    if not isinstance(ping, Ping):
        raise TypeError(f"{name} must be a Ping, got {ping!r}")
    if is_spaces(ping.payload):
        raise ValueError(
            f"{name} must not be spaces: in {EVENT_STREAM} they would spoil the next field's "
            f"name, got {ping!r}"
        )
    return ping


def _start_as(policy: Policy) -> str | None:
    given: object = policy.start_as
    if given is None:
        return None
    if policy.start_after is None:
        raise ValueError(
            f"start_as needs start_after: without it every start is the app's, got {given!r}"
        )
    if not isinstance(given, str):
        raise TypeError(f"start_as must be a media type or None, got {given!r}")
    media_type = given.strip().lower()
    if media_type not in (EVENT_STREAM, JSON, *policy.formats):
        raise ValueError(
            f"start_as must be {EVENT_STREAM}, {JSON} or a type in formats, got {given!r}"
        )
    return media_type


def _formats(formats: object) -> dict[str, Ping]:
    if not isinstance(formats, Mapping):
        raise TypeError(f"formats must map media types to pings, got {formats!r}")
    checked: dict[str, Ping] = {}
    for name, ping in cast("Mapping[object, object]", formats).items():
        if not isinstance(name, str):
            raise TypeError(f"formats: a media type must be str, got {name!r}")
        media_type = name.strip().lower()
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise ValueError(
                f"formats: a media type must be type/subtype with no parameters, got {name!r}"
            )
        if media_type == EVENT_STREAM:
            raise ValueError(f"formats: {name!r} has its own field, ping, got {ping!r}")
        if not isinstance(ping, Ping):
            raise TypeError(f"formats: {name!r} must be given a Ping, got {ping!r}")
        checked[media_type] = ping
    return checked
