"""Policy: how one kind of stream is kept alive, and the arithmetic of its times.

Law: values and plain functions, valid once built. Knows no clock, no event loop and no ASGI.
"""

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypedDict, cast, final

from ._frames import Boundary, Ping, boundary_in, is_spaces

Pacing: TypeAlias = Literal["idle", "steady"]
Placed: TypeAlias = tuple[Ping, Boundary]
Last: TypeAlias = tuple[Ping | None, Boundary]

LEAST_INTERVAL: Final = 0.001
"""Seconds; what is shorter than a loop's timers can tell apart would be a busy loop."""

SLACK: Final = 0.02
"""The part of its interval by which a ping may come early."""

ROUNDING: Final = 1e-9
"""Seconds within which two sums of the same times may differ."""

STEP: Final = 1.0
"""Seconds that the end of a stream may take, until its app is cancelled."""

BOUNDS: Final = ("max_lifetime", "drain", "send_timeout")
"""The fields by which a policy may end a stream."""

LEAST_SHARE_OF_LIFETIME: Final = 0.8
LEAST_SHARE_OF_DRAIN: Final = 0.5

EVENT_STREAM: Final = "text/event-stream"

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

    Raises:
        ValueError: A value is out of range; the message names field, rule and value.
        TypeError: A value is of the wrong type; the message names field, rule and value.
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

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("interval", seconds("interval", self.interval))
        if self.first is not None:
            put("first", seconds("first", self.first, zero="at once"))
        if self.pacing not in ("idle", "steady"):
            raise ValueError(f'pacing must be "idle" or "steady", got {self.pacing!r}')
        if not isinstance(self.headers, bool):
            raise TypeError(f"headers must be True or False, got {self.headers!r}")
        put("ping", _ping("ping", self.ping))
        put("formats", _formats(self.formats))
        if self.max_lifetime is not None:
            put("max_lifetime", seconds("max_lifetime", self.max_lifetime))
        if self.drain is not None:
            put("drain", seconds("drain", self.drain, zero="not at all"))
        if self.send_timeout is not None:
            put("send_timeout", seconds("send_timeout", self.send_timeout))
        if self.farewell is not None:
            _ping("farewell", self.farewell)
            if self.drain is None and self.max_lifetime is None:
                raise ValueError(
                    "farewell needs drain or max_lifetime: without them nothing ends a "
                    f"stream, got {self.farewell!r}"
                )


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


def lifetime_over(max_lifetime: float, start: float) -> float:
    """Return when a stream is to be ended that starts at `start`."""
    share = random.uniform(LEAST_SHARE_OF_LIFETIME, 1.0)  # noqa: S311
    return start + share * max_lifetime


def drained_at(drain: float, now: float, *, spread: bool) -> float:
    """Return when a stream is to be ended that was stopped now, perhaps among others."""
    share = random.uniform(LEAST_SHARE_OF_DRAIN, 1.0) if spread else 1.0  # noqa: S311
    return now + share * drain


def slack(policy: Policy) -> float:
    """Return the seconds a ping may come early, to be sent together with others."""
    return SLACK * policy.interval


def first_at(policy: Policy, start: float) -> float:
    """Return the time of the first ping of a stream that starts at `start`."""
    return start + (policy.interval if policy.first is None else policy.first)


def due_at(policy: Policy, start: float, last: float, now: float) -> float:
    """Return when the ping is due that a stream waits for, or is late with.

    Args:
        policy: The stream's policy.
        start: When the stream started.
        last: When anything was last sent; in steady pacing, when a ping was.
        now: The time; of no account in idle pacing.
    """
    if policy.pacing == "idle":
        due = last + policy.interval
        return due if policy.first is None else max(due, first_at(policy, start))
    first = first_at(policy, start)
    beats = math.floor((now + slack(policy) - first) / policy.interval)
    due = first + max(beats, 0) * policy.interval
    # That one may have been sent already, early by its slack, or so late that it is enough.
    sent = due <= last + slack(policy) + ROUNDING
    return due + policy.interval if sent else due


def next_look(policy: Policy, due: float, now: float) -> float:
    """Return when to look again at a stream whose ping was due and is sent now."""
    return (now if policy.pacing == "idle" else due) + policy.interval


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
