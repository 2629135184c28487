"""Routes: which policy a path gets.

Law: a path in, a policy out. Knows no clock, no event loop and no stream.

Source of the pattern syntax: Starlette, "Routing", path parameters.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias, cast

from ._asgi import Scope
from ._policy import BOUNDS, Policy, is_bounded

RouteValue: TypeAlias = Policy | float | None
RouteMap: TypeAlias = Mapping[str, RouteValue]
RouteFunction: TypeAlias = Callable[[Scope], RouteValue]

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_EVERYTHING = r"/[\s\S]*"


class Choice(NamedTuple):
    """The policy for a request, the route that named it, and what that may ask for.

    `bounded`: that streams be ended; `early`: that they be started in the app's place;
    `plain`: neither.
    """

    policy: Policy
    route: str
    bounded: bool
    early: bool
    plain: bool


class Routes:
    """Chooses a policy for each request; fixed once built."""

    __slots__ = ("_choices", "_default", "_function", "_pattern")

    def __init__(self, default: Policy, routes: RouteMap | RouteFunction | None) -> None:
        self._default = _made(default, "*")
        self._function: RouteFunction | None = None
        self._choices: tuple[Choice | None, ...] = ()
        if (paths := _mapping(routes)) is not None:
            self._choices = tuple(
                _choice(_resolved(default, f"routes[{path!r}]", value), path)
                for path, value in paths.items()
            )
            _check_use(default, paths)
            # One alternation, tried in order: the first route that matches wins.
            self._pattern = re.compile("|".join(f"({_regex(path)})" for path in paths))
        elif routes is None or callable(routes):
            self._function = routes
        else:
            raise TypeError(f"routes must be a mapping, a callable or None, got {routes!r}")

    @property
    def only(self) -> Choice | None:
        """What is chosen for every request, where there are no routes."""
        return None if self._choices or self._function else self._default

    @property
    def may_drain(self) -> bool:
        """Whether a stream may be chosen a policy with a `drain`, as far as can be told."""
        choices = (self._default, *self._choices)
        drains = (choice is not None and choice.policy.drain is not None for choice in choices)
        return self._function is not None or any(drains)

    def choose(self, scope: Scope) -> Choice | None:
        """Return what is chosen for a request; `None`: hands off.

        A callable that fails is logged, and the default policy is used: a mistake in the
        configuration of one request must not cost it its stream.
        """
        if self._choices:
            match = self._pattern.fullmatch(_route_path(scope))
            return self._choices[(match.lastindex or 0) - 1] if match else self._default
        if self._function is None:
            return self._default
        try:
            value = self._function(scope)
            return _choice(_resolved(self._default.policy, "routes", value), "*")
        except Exception:
            logging.getLogger("keepalive").exception(
                "the routes callable failed", extra={"path": scope.get("path")}
            )
            return self._default


def _check_use(default: Policy, routes: RouteMap) -> None:
    """Refuse what a middleware asks for where `None`, hands off, is the route of all there is.

    An interval is the middleware's own policy otherwise, and has its bounds and its start.
    """
    asked = (*BOUNDS, "start_after")
    bounds = [name for name in asked if getattr(default, name) is not None]
    for path, value in routes.items():
        if not (value is None or isinstance(value, Policy)):
            return
        if bounds and value is None and _regex(path) == _EVERYTHING:
            raise ValueError(
                f"{' and '.join(bounds)} must be on a route that is not None, got "
                f"routes[{path!r}] = None for every path"
            )


def _choice(policy: Policy | None, route: str) -> Choice | None:
    return None if policy is None else _made(policy, route)


def _made(policy: Policy, route: str) -> Choice:
    bounded, early = is_bounded(policy), policy.start_after is not None
    return Choice(policy, route, bounded, early, plain=not (bounded or early))


def _mapping(routes: object) -> RouteMap | None:
    return cast("RouteMap", routes) if isinstance(routes, Mapping) else None


def _resolved(default: Policy, name: str, value: object) -> Policy | None:
    if value is None or isinstance(value, Policy):
        return value
    try:
        return replace(default, interval=value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be a Policy, an interval in seconds or None: {error}"
        ) from None


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
    literal, *rest = _PARAMETER.split(path)
    names, parameters = set[str](), list[tuple[bool, str]]()
    for parameter, text in zip(rest[::2], rest[1::2], strict=True):
        name, _, convertor = parameter.partition(":")
        if not name.isidentifier() or convertor not in ("", "path"):
            raise ValueError(
                f"routes: a parameter must be {{name}} or {{name:path}}, got {path!r}"
            )
        if name in names:
            raise ValueError(f"routes: {name!r} must be named once, got {path!r}")
        names.add(name)
        parameters.append((bool(convertor), re.escape(text)))
    if any(brace in text for text in (literal, *rest[1::2]) for brace in "{}"):
        raise ValueError(f"routes: braces must be closed and not nested, got {path!r}")
    return re.escape(literal) + _tail(parameters)


def _tail(parameters: list[tuple[bool, str]]) -> str:
    """Return the expression of parameters, each with the text behind it.

    Where the next one can take in whatever an earlier end leaves to it, the first end is as
    good as any: no other is tried, which could take the square of a path's length, or worse.
    """
    parts: list[str] = []
    followers = [is_path for is_path, _ in parameters[1:]]
    for number, (is_path, text) in enumerate(parameters):
        some = r"[\s\S]*" if is_path else r"[^/]+"
        is_sure = number < len(followers) and followers[number] >= is_path
        parts.append(f"(?>{some}?{text})" if is_sure else some + text)
    return "".join(parts)
