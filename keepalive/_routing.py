"""Finds the policy for a path, and prepares it for each media type.

Source of the pattern syntax: Starlette, "Routing", path parameters.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias, cast

from ._defaultping import DefaultPing, choose_ping
from ._ping import Boundary, Ping, boundary_in, is_event, static_payload
from ._policy import (
    LIMITS,
    MIDDLEWARE_ONLY,
    Policy,
    PolicyOptions,
    check_option_names,
    early_policy,
    has_limits,
    merged,
)
from ._timing import slack
from ._types import EVENT_STREAM, LOGGER, Message, Scope, log_errors

RouteValue: TypeAlias = float | PolicyOptions | Policy | None
"""A value in `routes`."""
RouteMap: TypeAlias = Mapping[str, RouteValue]
RouteFunction: TypeAlias = Callable[[Scope], RouteValue]

MAX_CACHED_ROUTES: Final = 64
"""How many values of a `routes` callable are cached; most return few different ones."""

MAX_REPORTED_ERRORS: Final = 64
"""How many different errors in values of a `routes` callable are logged."""

DRAIN_REQUIRED: Final = (
    "on_signals needs drain, a number of seconds: without it a signal only stops the pings, "
    "and the server waits for its open streams forever"
)

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_EVERYTHING = r"/[\s\S]*"

_FOREIGN_SYNTAX: Final = (
    (re.compile(r"\*+"), "{rest:path}"),  # shells, Express
    (re.compile(r"<(?:\w+:)?(\w+)>"), r"{\1}"),  # Flask, Django
    (re.compile(r"(?<=/):(\w+)"), r"{\1}"),  # Express, Rails
)
"""Other frameworks' syntax and its replacement; it would be matched as literal text."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How streams of one media type on one route are kept alive.

    Created once, with its route, and shared by all of their streams.

    Attributes:
        policy: The route's policy; for an early start, with `first_ping=0`.
        configured: The route's policy.
        pattern: The route's.
        media_type: The streams' media type.
        ping: What is inserted.
        payload: The bytes of each ping in a stream with LF as its line ending; `None` if a
            callable returns them.
        boundary: Where the ping may be inserted.
        farewell: What is sent just before the middleware ends a stream.
        closing_boundary: Where the middleware may end a stream.
        slack: Seconds by which a ping may be early.
        idle: Whether the app's bytes reset the timer.
        by_request: Plans with the pings to choose from, if the policy has no ping.
    """

    policy: Policy
    configured: Policy
    pattern: str
    media_type: str
    ping: Ping
    payload: bytes | None
    boundary: Boundary
    farewell: Ping | None
    closing_boundary: Boundary
    slack: float
    idle: bool
    by_request: "Mapping[DefaultPing, Plan]"

    def for_request(self, scope: Scope, start: Message) -> "Plan":
        """Return the plan for the stream of a request, given its response start."""
        if not self.by_request:
            return self
        return self.by_request[choose_ping(scope, start.get("headers", ()))]


@dataclass(frozen=True, slots=True)
class Route:
    """The result of matching a request: a policy, and values derived from it.

    Attributes:
        policy: Its policy.
        pattern: The path pattern; `"*"` if none has matched.
        plans: The plans of the media types that are kept alive.
        early_plans: The plans of the media types with which a response may be started early.
        other_types: Whether there are plans for types other than `text/event-stream`.
        has_limits: Whether the middleware may end its streams.
        is_plain: Whether the middleware neither starts nor ends its streams.
    """

    policy: Policy
    pattern: str
    plans: Mapping[str, Plan]
    early_plans: Mapping[str | None, Plan]
    other_types: bool
    has_limits: bool
    is_plain: bool

    @classmethod
    def of(cls, policy: Policy, pattern: str, *, own_farewell: bool = False) -> "Route":
        """Return the route of a policy.

        Args:
            policy: The policy.
            pattern: The path pattern.
            own_farewell: Whether the farewell is the route's own, so that it is always sent.
        """

        def plan(media_type: str, timing: Policy = policy) -> Plan:
            return _plan(policy, timing, pattern, media_type, own_farewell=own_farewell)

        limited, media_types = has_limits(policy), (EVENT_STREAM, *policy.media_types)
        early_types: set[str] = set()
        if policy.start_after is not None:
            early_types = {EVENT_STREAM, policy.start_as or EVENT_STREAM}
        return cls(
            policy,
            pattern,
            {name: plan(name) for name in media_types},
            {name: plan(name, early_policy(policy, name)) for name in early_types},
            other_types=bool(policy.media_types),
            has_limits=limited,
            is_plain=not (limited or early_types),
        )


class Routes:
    """Finds the route of each request. Immutable, except for the cache for a callable."""

    __slots__ = (
        "_cached",
        "_drain_required",
        "_function",
        "_pattern",
        "_reported",
        "_routes",
        "default",
    )

    def __init__(
        self,
        default: Policy,
        routes: RouteMap | RouteFunction | None,
        *,
        drain_required: bool = False,
    ) -> None:
        self._drain_required = drain_required
        if drain_required and default.drain is None:
            raise ValueError(f"{DRAIN_REQUIRED}; got None")
        self.default = Route.of(default, "*")
        """The route of paths that no pattern matches."""
        self._function: RouteFunction | None = None
        self._routes: tuple[Route | None, ...] = ()
        self._cached: dict[object, _Cached] = {}
        self._reported: set[str] = set()
        if (paths := _mapping(routes)) is not None:
            self._routes = tuple(
                _route(default, f"routes[{path!r}]", value, path)
                for path, value in paths.items()
            )
            _check_use(default, paths)
            self._check_drains(paths)
            # One alternation, tried in order: the first route that matches wins.
            self._pattern = re.compile("|".join(f"({_regex(path)})" for path in paths))
        elif routes is None or callable(routes):
            self._function = routes
        else:
            raise TypeError(f"routes must be a mapping, a callable or None, got {routes!r}")

    @property
    def single(self) -> Route | None:
        """The route of every request, if there is only one."""
        return None if self._routes or self._function else self.default

    @property
    def may_drain(self) -> bool:
        """Whether a route may have a `drain`; a callable may return anything."""
        routes = (self.default, *self._routes)
        drains = (route is not None and route.policy.drain is not None for route in routes)
        return self._function is not None or any(drains)

    def _check_drains(self, routes: RouteMap) -> None:
        for path, value in routes.items():
            if self._lacks_drain(value):
                raise ValueError(f"routes[{path!r}]: {DRAIN_REQUIRED}; got {value!r}")

    def _lacks_drain(self, value: object) -> bool:
        """Whether a complete policy has no `drain`, though one is required.

        An explicit `None` in a mapping is intentional.
        """
        return self._drain_required and isinstance(value, Policy) and value.drain is None

    def match(self, scope: Scope) -> Route | None:
        """Return the route of a request; `None` if it is excluded.

        If the callable fails, the error is logged and the middleware's own policy is used: a
        configuration mistake must not break the request.
        """
        if self._routes:
            match = self._pattern.fullmatch(_route_path(scope))
            return self._routes[cast("int", match.lastindex) - 1] if match else self.default
        if self._function is None:
            return self.default
        with log_errors("the routes callable failed", path=scope.get("path")):
            value = self._function(scope)
            try:
                return self._remembered(value)
            except (TypeError, ValueError) as error:
                # Logged once, since a configuration mistake would fill the log. The number
                # is limited, since a client may determine the value, and so the message.
                known = str(error) in self._reported
                if known or len(self._reported) >= MAX_REPORTED_ERRORS:
                    return self.default
                self._reported.add(str(error))
                raise
        return self.default

    def _remembered(self, value: RouteValue) -> Route | None:
        """Return the route for a callable's value.

        Mappings are cached by identity, with a copy, since they may be changed later.
        """
        key: object = (type(value), value)  # True equals 1, but is not a number of seconds
        copy: dict[str, object] | None = None
        if isinstance(value, Mapping):
            key, copy = id(value), dict(cast("Mapping[str, object]", value))
        elif not isinstance(value, Policy | float | int | None):
            _options("routes", value)  # raises
        cached = self._cached.get(key)
        if cached is not None and cached.copy == copy:
            return cached.route
        route = _route(self.default.policy, "routes", value, "*")
        if self._lacks_drain(value) and DRAIN_REQUIRED not in self._reported:
            self._reported.add(DRAIN_REQUIRED)
            LOGGER.warning("routes: %s; got %r", DRAIN_REQUIRED, value)
        if len(self._cached) >= MAX_CACHED_ROUTES:
            self._cached.clear()
        self._cached[key] = _Cached(value, copy, route)
        return route


class _Cached(NamedTuple):
    """A value that a callable has returned; kept so that its identity is not reused."""

    value: RouteValue
    copy: dict[str, object] | None
    route: Route | None


def _plan(
    configured: Policy, policy: Policy, pattern: str, media_type: str, *, own_farewell: bool
) -> Plan:
    """Return the plan of a media type; its arguments are those of `Plan` and `Route.of`."""
    is_event_stream = media_type == EVENT_STREAM
    if is_event_stream:
        ping = policy.ping or DefaultPing.COMMENT.value
    else:
        ping = policy.media_types[media_type]
    boundary = boundary_in(media_type, ping)
    plan = Plan(
        policy=policy,
        configured=configured,
        pattern=pattern,
        media_type=media_type,
        ping=ping,
        payload=static_payload(ping),
        boundary=boundary,
        farewell=_farewell(policy, media_type, boundary),
        closing_boundary="event" if is_event_stream else boundary,
        slack=slack(policy),
        idle=policy.pacing == "idle",
        by_request={},
    )
    if is_event_stream and policy.ping is None:
        choices = {each: _with_ping(plan, each.value, own_farewell) for each in DefaultPing}
        return replace(plan, by_request=choices)
    return plan


def _farewell(policy: Policy, media_type: str, boundary: Boundary) -> Ping | None:
    farewell = policy.farewell
    if media_type != EVENT_STREAM and farewell is not None:
        # Other media types have no event boundaries for a farewell that needs one.
        return None if (farewell.at, boundary) == ("event", "line") else farewell
    return farewell


def _with_ping(plan: Plan, ping: Ping, own_farewell: bool) -> Plan:
    """Return a plan with a ping that was chosen by the request.

    A client that breaks on an event as a ping would break on an event as a farewell, too.
    """
    farewell = plan.farewell
    if farewell is not None and is_event(farewell) and not (own_farewell or is_event(ping)):
        farewell = None
    return replace(
        plan,
        ping=ping,
        payload=static_payload(ping),
        boundary=boundary_in(plan.media_type, ping),
        farewell=farewell,
    )


def _check_use(default: Policy, routes: RouteMap) -> None:
    """Reject options of a middleware whose every path is excluded, since they have no effect.

    A path with an interval inherits them.
    """
    options = (*LIMITS, "start_after")
    unused = [name for name in options if getattr(default, name) is not None]
    for path, value in routes.items():
        if not (value is None or isinstance(value, Policy)):
            return
        if unused and value is None and _regex(path) == _EVERYTHING:
            raise ValueError(
                f"{' and '.join(unused)} must apply to a route that is not None, got "
                f"routes[{path!r}] = None for every path"
            )


def _route(default: Policy, name: str, value: object, pattern: str) -> Route | None:
    """Return the route for a value of `routes`.

    Args:
        default: The middleware's own policy.
        name: Where the value is, for error messages.
        value: The value.
        pattern: The path pattern.

    Raises:
        ValueError: An option is out of range, or the options are inconsistent.
        TypeError: The value or an option has the wrong type, or an option is unknown.
    """
    if value is None:
        return None
    if isinstance(value, Policy):
        return Route.of(value, pattern)
    options = _options(name, value)
    try:
        own_farewell = options.get("farewell") is not None
        return Route.of(merged(default, options), pattern, own_farewell=own_farewell)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _options(name: str, value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        options = cast("Mapping[str, object]", value)
        for option in options:
            if option in MIDDLEWARE_ONLY:
                raise TypeError(
                    f"{name}: {option!r} is an option of KeepaliveMiddleware, not of a route"
                )
        check_option_names(name, options, PolicyOptions.__annotations__)
        return options
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be an interval in seconds, a mapping of options, a Policy or None, "
            f"got {value!r}"
        )
    return {"interval": value}


def _mapping(routes: object) -> RouteMap | None:
    return cast("RouteMap", routes) if isinstance(routes, Mapping) else None


def _route_path(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def _regex(path: object) -> str:
    """Return the regular expression of a path pattern, without capturing groups."""
    if not isinstance(path, str):
        raise TypeError(f"routes: a path must be str, got {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"routes: a path must start with '/', got {path!r}")
    _reject_foreign_syntax(path)
    literal, *rest = _PARAMETER.split(path)
    names, parameters, between = set[str](), list[tuple[bool, str]](), ""
    for parameter, text in zip(rest[::2], rest[1::2], strict=True):
        name, _, convertor = parameter.partition(":")
        if not name.isidentifier() or convertor not in ("", "path"):
            raise ValueError(
                f"routes: a parameter must be {{name}} or {{name:path}}, got {path!r}"
            )
        if name in names:
            raise ValueError(f"routes: the parameter {name!r} must be unique, got {path!r}")
        if parameters and parameters[-1][0] and "/" not in between:
            # Matching it would take quadratic time: a request with a path of 64,000 characters
            # blocked the event loop for 6 s.
            raise ValueError(
                f"routes: {{name:path}} must be the last parameter in a segment, got {path!r}"
            )
        names.add(name)
        between = text
        parameters.append((bool(convertor), re.escape(text)))
    if any(brace in text for text in (literal, *rest[1::2]) for brace in "{}"):
        raise ValueError(f"routes: braces must be closed and not nested, got {path!r}")
    return re.escape(literal) + _tail(parameters)


def _reject_foreign_syntax(path: str) -> None:
    for foreign, own in _FOREIGN_SYNTAX:
        if (translated := foreign.sub(own, path)) != path:
            raise ValueError(
                f"routes: a pattern must be written as {translated!r}, with {{name}} for one "
                f"segment and {{name:path}} for the rest, got {path!r}"
            )


def _tail(parameters: list[tuple[bool, str]]) -> str:
    """Return the expression of parameters, each with the literal text that follows it.

    If the next parameter can match whatever an earlier end of this one leaves, the first
    possible end is as good as any other. The group is then atomic, so that no other end is
    tried: without that, a pattern with three parameters in a segment took 91 s for a path of
    4,000 characters (tests/unit/test_routing.py).
    """
    parts: list[str] = []
    followers = [is_path for is_path, _ in parameters[1:]]
    for number, (is_path, text) in enumerate(parameters):
        some = r"[\s\S]*" if is_path else r"[^/]+"
        first_end_suffices = number < len(followers) and followers[number] >= is_path
        parts.append(f"(?>{some}?{text})" if first_end_suffices else some + text)
    return "".join(parts)
