"""The reference is whole: each public thing is on its page, with units, errors and an example.

What the documentation is made from is read: the page's directives, and the docstrings.
"""

import ast
import dataclasses
import doctest
import enum
import inspect
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pages
import pytest

import keepalive
from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    Policy,
    get_stream,
    on_signals,
)
from keepalive.testing import timeline

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference.md"
PUBLIC = {name: getattr(keepalive, name) for name in keepalive.__all__}
UNIONS = {"RouteValue", "StreamEvent"}
"""Their examples are the page's own."""
DIRECTIVE = re.compile(
    r"^\.\. (?:autoclass|autofunction|py:type):: keepalive\.(\w+).*\n((?:   .*\n)*)",
    re.MULTILINE,
)


# Examples


def examples_of(name: str, thing: object, names: dict) -> Iterator[doctest.DocTest]:
    """Return the examples of a public thing and of its members, which see the given names."""
    for test in doctest.DocTestFinder().find(thing, name, module=False, globs=names):
        if test.examples:
            yield test


def failures(test: doctest.DocTest) -> list[str]:
    """Return what fails of an example, as doctest says it."""
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    return said


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - UNIONS))
def test_each_name_has_an_example_that_runs(name):
    found = list(examples_of(name, PUBLIC[name], dict(PUBLIC)))
    assert found, f"{name} has no example"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert [said for test in found for said in failures(test)] == []
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_an_example_that_is_wrong_is_seen():
    def function():
        """Do.

        Example:
            >>> Ping.space().payload
            b'x'
        """

    (test,) = examples_of("function", function, dict(PUBLIC))
    assert "Expected" in "".join(failures(test))


# The page


def members(thing: type) -> set[str]:
    """Return the names of a class that are its own and public, but a dataclass's fields."""
    fields = [x.name for x in dataclasses.fields(thing)] if is_data(thing) else []
    named = thing.__members__ if issubclass(thing, enum.Enum) else vars(thing)
    public = {x for x in named if not x.startswith("_") and x not in fields}
    return public | ({"__call__"} & vars(thing).keys())


def is_data(thing: type) -> bool:
    return dataclasses.is_dataclass(thing)


def missing_from(page: str) -> Iterator[str]:
    """Name what the directives of a page leave out."""
    shown = dict(DIRECTIVE.findall(page))
    for name, thing in PUBLIC.items():
        if name not in shown:
            yield name
        elif isinstance(thing, type):
            listed = re.findall(r":(?:special-)?members:(.*)", shown[name])
            names = {x.strip() for line in listed for x in line.split(",")}
            inner = {x for x in members(thing) if "" in names and x[0] != "_"}
            yield from (f"{name}.{x}" for x in sorted(members(thing) - names - inner))


def test_the_page_shows_every_name_and_member():
    page = PAGE.read_text()
    assert list(missing_from(page)) == []
    assert list(missing_from(page.replace("keepalive.PingSent", "keepalive.Other"))) == [
        "PingSent"
    ]
    assert list(missing_from(page.replace("blank_line, ", ""))) == ["Ping.blank_line"]
    assert "StopReason.ABORTED" in list(missing_from(page.replace("   :members:\n", "")))
    assert list(missing_from(page.replace(":special-members: __call__", ":x:"))) == [
        "KeepaliveMiddleware.__call__",
        "Observer.__call__",
    ]


# Units and defaults


def descriptions(thing: object) -> dict[str, str]:
    """Return what a docstring says of each attribute or argument."""
    text = inspect.getdoc(thing) or ""
    found = re.findall(r"^    \*{0,2}(\w+): ((?:.|\n(?= {8}))*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", said) for name, said in found}


def without_unit(thing: type) -> Iterator[str]:
    """Name the numbers of a class whose description doesn't say what they count."""
    said = descriptions(thing)
    for name, parameter in inspect.signature(thing).parameters.items():
        kind = str(parameter.annotation)
        if "float" in kind and not re.search(
            r"\bseconds\b", said.get(name, ""), re.IGNORECASE
        ):
            yield name
        if "int" in re.findall(r"\w+", kind) and not re.search(
            r"\bbytes\b|how many|status", said.get(name, ""), re.IGNORECASE
        ):
            yield name


@pytest.mark.parametrize("name", ["KeepaliveMiddleware", "Policy", "PingSent", "StreamEnded"])
def test_numbers_have_units(name):
    assert list(without_unit(PUBLIC[name])) == []


def test_a_number_without_a_unit_is_seen():
    class Thing:
        """A thing.

        Args:
            wait: How long.
            size: How big.
        """

        def __init__(self, wait: float, size: int) -> None: ...

    assert list(without_unit(Thing)) == ["wait", "size"]


def shown(value: object) -> str:
    """Return a default as the documentation writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_a_policys_defaults_are_said():
    said = descriptions(Policy)
    for field in dataclasses.fields(Policy):
        text = said[field.name]
        assert re.search("default", text, re.IGNORECASE), field.name
        if field.name not in ("media_types", "farewell"):
            assert shown(field.default) in text, field.name
    assert "Default none" in said["media_types"]
    assert "Default none" in said["farewell"]
    assert (dict(Policy().media_types), Policy().farewell) == ({}, None)
    assert inspect.signature(KeepaliveMiddleware).parameters["interval"].default == 15.0
    assert "Default 15" in descriptions(KeepaliveMiddleware)["interval"]


# The table of options


def table_of_options(page: str) -> dict[str, str]:
    """Return the options of the tables at the top of the page, with their defaults."""
    top = page.partition("\n## The middleware\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \| .+ \|$", top, re.MULTILINE))


def options() -> dict[str, str]:
    """Return the options of the middleware, with their defaults as the table shows them."""
    policy, parameters = Policy(), inspect.signature(KeepaliveMiddleware).parameters
    own = {x.name: x.default for x in parameters.values() if x.kind is x.KEYWORD_ONLY}
    values = {x.name: getattr(policy, x.name) for x in dataclasses.fields(policy)} | own
    values["media_types"] = dict(values["media_types"])
    return {name: repr(value).replace("'", '"') for name, value in values.items()}


def test_the_table_of_options_has_all_of_them_and_their_defaults():
    page = PAGE.read_text()
    assert list(table_of_options(page).items()) == list(options().items())
    assert table_of_options(page.replace("| `15.0` |", "| `5.0` |", 1)) != options()
    assert table_of_options(page.replace("| `drain` |", "| drain |", 1)) != options()


def test_the_signature_of_the_middleware_is_its_own():
    shown = re.search(
        r"autoclass:: keepalive\.KeepaliveMiddleware\((.*)\)$", PAGE.read_text(), re.MULTILINE
    )
    arguments = ast.parse(f"def f({shown[1]}): ...").body[0].args
    parameters = inspect.signature(KeepaliveMiddleware).parameters
    names = [x.arg for x in (*arguments.args, *arguments.kwonlyargs, arguments.kwarg)]
    assert names == list(parameters)
    defaults = [ast.literal_eval(x) for x in (*arguments.defaults, *arguments.kw_defaults)]
    assert defaults == [x.default for x in parameters.values() if x.default is not x.empty]


# Signatures


SIGNATURES = pages.program("signatures.py")


def expanded(signature: str) -> list[str]:
    """Return the parts of ASGI's types that a signature shows in full."""
    return re.findall(r"MutableMapping|Awaitable|StreamStarted", signature)


@pytest.mark.parametrize(
    ("thing", "names"),
    [
        (KeepaliveMiddleware.__call__, "scope: Scope, receive: Receive, send: Send"),
        (get_stream, "scope: Scope"),
        (timeline, "app: ASGIApp"),
        (keepalive.Observer.__call__, "event: StreamEvent"),
    ],
)
def test_signatures_name_types(thing, names):
    plain = str(inspect.signature(thing))
    assert names not in plain
    assert expanded(plain) != []
    shown = SIGNATURES.with_alias_names(plain)
    assert names in shown
    assert expanded(shown) == []


@pytest.mark.parametrize("name", sorted(UNIONS))
def test_unions_are_shown_with_their_members(name):
    pattern = rf"^\.\. py:type:: keepalive\.{name}\n   :canonical: (.*)$"
    (members_shown,) = re.findall(pattern, PAGE.read_text(), re.MULTILINE)
    assert [PUBLIC.get(x, x) for x in members_shown.split(" | ")] == [
        {float: "float", type(None): "None"}.get(x, x) for x in get_args(PUBLIC[name])
    ]


def test_autodocs_signatures_name_types():
    scope = "~collections.abc.MutableMapping[str, ~typing.Any]"
    wait = f"~collections.abc.Callable[[], ~collections.abc.Awaitable[{scope}]]"
    event = (f"(scope: {scope}, n: int = <factory>, *, receive: {wait})", scope)
    changed = SIGNATURES.change_signature("app", "function", "f", object(), {}, *event)
    assert changed == ("(scope: Scope, n: int = {}, *, receive: Receive)", "Scope")
    assert SIGNATURES.change_signature("class", "C", None, None) == (None, None)


# Errors


async def app(scope, receive, send): ...


ERRORS = [
    (KeepaliveMiddleware, TypeError, lambda: KeepaliveMiddleware(app, intervall=1)),
    (KeepaliveMiddleware, TypeError, lambda: KeepaliveMiddleware(app, abort=1)),
    (KeepaliveMiddleware, ValueError, lambda: KeepaliveMiddleware(app, interval=-1)),
    (KeepaliveMiddleware, ValueError, lambda: KeepaliveMiddleware(app, routes={"x": 1})),
    (Policy, ValueError, lambda: Policy(interval=0)),
    (Policy, TypeError, lambda: Policy(interval="1")),
    (Ping, ValueError, lambda: Ping(b"x", "line")),
    (Ping, TypeError, lambda: Ping("x\n", "line")),
    (Ping.event, ValueError, lambda: Ping.event("a\nb")),
    (Ping.event, TypeError, lambda: Ping.event(1)),
    (Ping.comment, ValueError, lambda: Ping.comment("a\rb")),
    (Ping.comment, TypeError, lambda: Ping.comment(1)),
    (Ping.raw, ValueError, lambda: Ping.raw(b"", at="line")),
    (Ping.raw, TypeError, lambda: Ping.raw("", at="line")),
    (AbortController().signal.add_callback, TypeError,
     lambda: AbortController().signal.add_callback(None)),
    (on_signals, ValueError, on_signals),
    (on_signals, TypeError, lambda: on_signals("SIGTERM")),
    (get_stream, LookupError, lambda: get_stream({})),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "kind", "wrong"), ERRORS)
def test_what_is_raised_is_said(thing, kind, wrong):
    with pytest.raises(kind):
        wrong()
    assert kind.__name__ in raised_by(thing)


def raised_by(thing: object) -> list[str]:
    """Return the errors that a docstring names."""
    _, _, raises = (inspect.getdoc(thing) or "").partition("Raises:\n")
    return re.findall(r"^    (\w+): ", raises.split("\n\n")[0], re.MULTILINE)


def test_every_error_that_is_named_is_raised():
    """And so is each that a docstring of the package's face names."""
    tried = {(thing.__qualname__, kind.__name__) for thing, kind, _ in ERRORS}
    named = set()
    for thing in PUBLIC.values():
        inner = vars(thing).values() if isinstance(thing, type) else ()
        for each in (thing, *(getattr(x, "__func__", x) for x in inner)):
            name = getattr(each, "__qualname__", "")
            named |= {(name, kind) for kind in raised_by(each) if name}
    assert named == tried
