"""The options of a stream, validated on creation."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal, TypeAlias, TypedDict, cast, final

from ._ping import Ping, is_event, is_spaces
from ._types import EVENT_STREAM, JSON

Pacing: TypeAlias = Literal["idle", "steady"]

MIN_INTERVAL: Final = 0.001
"""In seconds. uvloop's timers have a resolution of 1 ms; less would be a busy loop."""

LIMITS: Final = ("max_lifetime", "max_silence", "drain", "send_timeout")
"""The fields that make the middleware end a stream."""

_ENDS: Final = ("max_lifetime", "max_silence", "drain")
"""The fields that make the middleware end a stream with a farewell."""

MIDDLEWARE_ONLY: Final = ("routes", "abort", "on_shutdown", "observer")
"""The options of `KeepaliveMiddleware` that a policy does not have."""

_ALWAYS_KNOWN: Final = (EVENT_STREAM, JSON)
"""The media types that `start_as` accepts whatever `media_types` contains."""

_DURATIONS: Final = (
    ("first_ping", "immediately"),
    ("max_lifetime", None),
    ("max_silence", None),
    ("drain", "not at all"),
    ("send_timeout", None),
    ("start_after", None),
)
"""The fields in seconds, apart from `interval`, and what 0 means for each."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)


class MiddlewareOptions(TypedDict, total=False):
    """The options of `KeepaliveMiddleware` that are those of `Policy`, besides `interval`."""

    pacing: Pacing
    first_ping: float | None
    ping: Ping | None
    media_types: Mapping[str, Ping]
    anti_buffering: bool
    max_lifetime: float | None
    max_silence: float | None
    drain: float | None
    farewell: Ping | None
    send_timeout: float | None
    start_after: float | None
    start_as: str | None


class PolicyOptions(MiddlewareOptions, total=False):
    """The options of a route: `interval`, and all others of `Policy`.

    A route's options are merged over those of the middleware. `None` switches an inherited
    option off.

    Example:
        >>> chat: PolicyOptions = {"interval": 5.0, "max_lifetime": 600.0, "drain": None}
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, drain=10.0, routes={"/chat/{thread}": chat})
    """

    interval: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A complete set of options for a stream. An immutable value, validated on creation.

    Attributes:
        interval: Idle time in seconds before a ping is sent. Default 15, which is safe for
            every idle timeout of 20 s or more; at least 0.001 and finite.
        pacing: `"idle"` (default): ping after `interval` seconds without a byte; the app's own
            bytes reset the timer. `"steady"`: ping every `interval` seconds, on a fixed grid
            from the first ping, regardless of what the app sends; missed pings are skipped.
        first_ping: Seconds from the response start to the first ping; 0: immediately, for
            proxies that buffer the headers until the first body byte. Default `None`:
            `interval`. With idle pacing, bytes of the app replace the first ping.
        ping: What is inserted into `text/event-stream`. Default `None`: chosen for each stream
            by looking at the request, so that no SDK breaks. `EventSource`, curl and other
            plain GET requests get `Ping.event()`, Anthropic's SDKs an event as Anthropic's
            own, Google's a blank line, all others `Ping.comment()`.
        media_types: Other media types to keep alive, each with its ping: for example
            `{"application/x-ndjson": Ping.space()}`. Default none.
        anti_buffering: Whether `X-Accel-Buffering: no` and `Cache-Control: no-cache,
            no-transform` are added to a stream, each only if the app did not set it.
            Default `True`.
        max_lifetime: Seconds after which the stream is ended, so that its client reconnects.
            Each stream is given a random 80 to 100 % of it, so that clients don't all
            reconnect at once. Default `None`: never.
        max_silence: Seconds without a byte from the app after which the stream is ended, so
            that pings don't hide a hung app. Neither pings nor empty bodies count,
            and the time is not counted while a send is in progress. Counts from the response
            start, including one by the middleware. Default `None`: no limit.
        drain: Seconds that the app may continue after an abort or a shutdown; 0: not at all.
            Then the stream is ended. Default `None`: only the pings stop. Streams that are
            stopped together end at random times in the second half of this time, to avoid a
            reconnect storm (thundering herd). A stream that is stopped alone, or whose app
            has used `get_stream(scope).signal`, has the full time.
        farewell: A ping that is sent just before the middleware ends a stream. Needs `drain`,
            `max_lifetime` or `max_silence`. In media types other than `text/event-stream` it
            is sent only if it needs a line boundary, or if the media type's own ping needs an
            event boundary. If `ping` is `None`, a farewell that is an event is sent only to
            clients whose ping is one, unless it is in a route's own mapping. Default none.
        send_timeout: Seconds for which a single write may block; after that the client is
            treated as disconnected. Default `None`: no limit. It has no effect on servers
            without back-pressure.
        start_after: Seconds, from the request, that the app may take to start its response.
            Then the middleware starts it, with status 200 and a ping; the app's own status and
            headers can no longer be sent. It is started as `text/event-stream` if the request
            accepts that and not `application/json`, or if it has a JSON body with `"stream":
            true`; otherwise as `start_as`. Default `None`: only the app starts its response.
            HEAD and OPTIONS requests never qualify, nor do those with `If-None-Match`,
            `If-Modified-Since`, `Range` or `Expect`.
        start_as: The media type of a response started by the middleware, for requests that do
            not ask for an event stream: `"text/event-stream"`, a type in `media_types`, or
            `"application/json"`, whose ping is `Ping.space()`. Default `None`: the response to
            such a request is not started. Needs `start_after`.

    Raises:
        ValueError: A value is out of range; the message names the field, rule and value.
        TypeError: A value has the wrong type; the message names the same.

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
    first_ping: float | None = None
    ping: Ping | None = None
    media_types: Mapping[str, Ping] = field(default_factory=dict[str, Ping], hash=False)
    anti_buffering: bool = True
    max_lifetime: float | None = None
    max_silence: float | None = None
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
        if not isinstance(self.anti_buffering, bool):
            raise TypeError(
                f"anti_buffering must be True or False, got {self.anti_buffering!r}"
            )
        if self.ping is not None:
            _check_ping("ping", self.ping)
        put("media_types", _media_types(self.media_types))
        if self.farewell is not None:
            _check_ping("farewell", self.farewell)
            if all(getattr(self, name) is None for name in _ENDS):
                raise ValueError(
                    "farewell needs drain, max_lifetime or max_silence: without them nothing "
                    f"ends a stream, got {self.farewell!r}"
                )
        put("start_as", _start_as(self))


def check_option_names(owner: str, names: Iterable[object], known: Collection[str]) -> None:
    """Reject unknown options.

    Args:
        owner: What has the options, for the message.
        names: The names to check.
        known: The valid names.

    Raises:
        TypeError: A name is unknown; the message names the nearest one.
    """
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise TypeError(f"{owner} has no option {name!r}; the nearest is {nearest!r}")


def merged(inherited: Policy, options: Mapping[str, object]) -> Policy:
    """Return a policy whose options are those of a mapping, and otherwise inherited.

    An inherited `farewell` or `start_as` is dropped if the mapping has removed what it needs.
    An inherited farewell that is an event is also dropped if the mapping's ping is not one: it
    would break the clients that the ping was chosen for.

    Raises:
        ValueError: A value is out of range, or the options are inconsistent.
        TypeError: A value has the wrong type.
    """
    values = {each.name: getattr(inherited, each.name) for each in fields(inherited)}
    values |= options
    ends = any(values[name] is not None for name in _ENDS)
    if "farewell" not in options and (not ends or _needs_no_event(values, options)):
        values["farewell"] = None
    if "start_as" not in options:
        media_types: object = values["media_types"]
        known = isinstance(media_types, Mapping) and values["start_as"] in media_types
        if values["start_after"] is None or not (known or values["start_as"] in _ALWAYS_KNOWN):
            values["start_as"] = None
    return Policy(**values)


def _needs_no_event(values: Mapping[str, object], options: Mapping[str, object]) -> bool:
    """Whether a mapping has chosen a ping that is not an event, but the farewell is one."""
    ping, farewell = options.get("ping"), values["farewell"]
    if not (isinstance(ping, Ping) and isinstance(farewell, Ping)):
        return False
    return is_event(farewell) and not is_event(ping)


def has_limits(policy: Policy) -> bool:
    """Whether the middleware may end a stream that has this policy."""
    return any(getattr(policy, name) is not None for name in LIMITS)


def early_policy(policy: Policy, media_type: str) -> Policy:
    """Return the policy of a stream that the middleware starts, with an immediate ping."""
    media_types = policy.media_types
    if media_type == JSON:
        media_types = {JSON: Ping.space(), **media_types}
    return replace(policy, first_ping=0.0, media_types=media_types)


def seconds(name: str, value: object, *, zero: str | None = None) -> float:
    """Return a duration as `float`.

    Args:
        name: The field, for the message.
        value: What was given.
        zero: What 0 means; `None` if 0 is invalid.

    Raises:
        ValueError: Not finite, negative, or an invalid 0.
        TypeError: Not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "; to exclude a path, use None as its value in routes" if value is None else ""
        raise TypeError(f"{name} must be a number of seconds, got {value!r}{hint}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < (MIN_INTERVAL if zero is None else 0):
        rule = f"above 0 (at least {MIN_INTERVAL})" if zero is None else f"0 ({zero}) or above"
        raise ValueError(f"{name} must be {rule} and finite (seconds), got {value!r}")
    return number


def _check_ping(name: str, ping: object) -> None:
    if not isinstance(ping, Ping):
        raise TypeError(f"{name} must be a Ping, got {ping!r}")
    if is_spaces(ping.payload):
        raise ValueError(
            f"{name} must not be spaces: in {EVENT_STREAM} they would corrupt the name of the "
            f"next field, got {ping!r}"
        )


def _start_as(policy: Policy) -> str | None:
    given: object = policy.start_as
    if given is None:
        return None
    if policy.start_after is None:
        raise ValueError(
            "start_as needs start_after: without it only the app starts responses, got "
            f"{given!r}"
        )
    if not isinstance(given, str):
        raise TypeError(f"start_as must be a media type or None, got {given!r}")
    media_type = given.strip().lower()
    if media_type not in (*_ALWAYS_KNOWN, *policy.media_types):
        raise ValueError(
            f"start_as must be {EVENT_STREAM}, {JSON} or a type in media_types, got {given!r}"
        )
    return media_type


def _media_types(media_types: object) -> dict[str, Ping]:
    if not isinstance(media_types, Mapping):
        raise TypeError(f"media_types must map media types to pings, got {media_types!r}")
    checked: dict[str, Ping] = {}
    for name, ping in cast("Mapping[object, object]", media_types).items():
        if not isinstance(name, str):
            raise TypeError(f"media_types: a media type must be str, got {name!r}")
        media_type = name.strip().lower()
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise ValueError(
                "media_types: a media type must be type/subtype without parameters, "
                f"got {name!r}"
            )
        if media_type == EVENT_STREAM:
            raise ValueError(
                f"media_types: {name!r} is configured by ping instead, got {ping!r}"
            )
        if not isinstance(ping, Ping):
            raise TypeError(f"media_types: the value of {name!r} must be a Ping, got {ping!r}")
        checked[media_type] = ping
    return checked
