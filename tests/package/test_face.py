"""The face of the package: the names, their documentation, and an import with no effects."""

import ast
import dataclasses
import enum
import inspect
import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import keepalive
import keepalive.testing

FACE = [
    "AbortController",
    "AbortSignal",
    "KeepaliveMiddleware",
    "KeepaliveStream",
    "Observer",
    "Ping",
    "PingSent",
    "Policy",
    "PolicyOptions",
    "RouteValue",
    "StopReason",
    "StreamEnded",
    "StreamEvent",
    "StreamStarted",
    "get_stream",
    "on_signals",
]


# A function returns one, the other is a protocol: no user calls their constructors.
NOT_CONSTRUCTED = {"KeepaliveStream", "Observer"}
UNIONS = {"RouteValue", "StreamEvent"}
"""They have neither a docstring nor a module; `docs/reference.md` describes them."""


def test_the_names_are_these():
    assert keepalive.__all__ == FACE
    names = [name for name in dir(keepalive) if not name.startswith("_")]
    assert names == sorted([*FACE, "testing"])  # which is imported by this test, not by that


def undocumented(name: str, thing: object) -> Iterator[str]:
    """Name what a reader of the documentation would look for in vain."""
    docstring = thing.__doc__
    # A dataclass without a docstring gets its signature for one.
    if not docstring or docstring.startswith(f"{name}("):
        yield name
        docstring = ""
    if not isinstance(thing, type):
        yield from (f"{name}({x})" for x in parameters(thing) if f"{x}:" not in docstring)
        return
    if issubclass(thing, enum.Enum):
        documented = documented_assignments(source_of(thing))
        yield from (f"{name}.{x}" for x in thing.__members__ if x not in documented)
        return
    if dataclasses.is_dataclass(thing):
        fields = [x.name for x in dataclasses.fields(thing) if not x.name.startswith("_")]
    else:
        fields = [] if name in NOT_CONSTRUCTED else parameters(thing.__init__)
    yield from (f"{name}({x})" for x in fields if f"{x}:" not in docstring)
    for member, value in vars(thing).items():
        inner = value.fget if isinstance(value, property) else value
        inner = getattr(inner, "__func__", inner)
        is_public = member == "__call__" or not member.startswith("_")
        if is_public and inspect.isfunction(inner) and not inner.__doc__:
            yield f"{name}.{member}"


def source_of(cls: type) -> str:
    """Return a class's source. Public ones don't name the module that contains it."""
    for name, module in sys.modules.items():
        if name.startswith("keepalive._") and vars(module).get(cls.__name__) is cls:
            for node in ast.parse(source := inspect.getsource(module)).body:
                if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                    return ast.get_source_segment(source, node)
    return inspect.getsource(cls)


def parameters(function: object) -> list[str]:
    """Return the names of what a function takes; none for one that Python itself wrote."""
    if not inspect.isfunction(function):
        return []
    return [x for x in inspect.signature(function).parameters if x[0] != "_" and x != "self"]


def documented_assignments(source: str) -> set[str]:
    """Return the names that a class's body assigns and then describes in a string."""
    (cls,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(cls, ast.ClassDef)
    return {
        ast.unparse(node.targets[0])
        for node, after in zip(cls.body, cls.body[1:], strict=False)
        if isinstance(node, ast.Assign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def test_what_users_test_with_has_one_name():
    assert keepalive.testing.__all__ == ["timeline"]
    assert list(undocumented("timeline", keepalive.testing.timeline)) == []


@pytest.mark.parametrize("name", FACE)
def test_public_objects_are_named_as_they_are_imported(name):
    if name not in UNIONS:
        assert getattr(keepalive, name).__module__ == "keepalive"
    assert pickle.loads(pickle.dumps(getattr(keepalive, name))) == getattr(keepalive, name)


@pytest.mark.parametrize("name", sorted({*FACE} - UNIONS))
def test_everything_public_is_documented(name):
    assert list(undocumented(name, getattr(keepalive, name))) == []


def test_what_is_not_documented_is_seen():
    class A:
        def __init__(self, size): ...
        def f(self): ...
        @property
        def g(self): ...
        @classmethod
        def h(cls): ...
        def __call__(self): ...

    @dataclasses.dataclass
    class B:
        size: int

    class C(enum.Enum):
        """Letters."""

        X = 1
        """The letter."""
        Y = 2

    class D:
        """Nothing to say."""

        def _private(self): ...

    def call(size):
        """Call."""

    assert list(undocumented("A", A)) == ["A", "A(size)", "A.f", "A.g", "A.h", "A.__call__"]
    assert list(undocumented("B", B)) == ["B", "B(size)"]
    assert list(undocumented("C", C)) == ["C.Y"]
    assert list(undocumented("D", D)) == []
    assert list(undocumented("call", call)) == ["call(size)"]


def test_instances_have_no_attribute_that_is_not_meant():
    app = keepalive.KeepaliveMiddleware(lambda *_: None)
    assert public(app) == ["app", "async_capable", "shutdown", "sync_capable"]
    assert public(keepalive.AbortController()) == ["abort", "signal"]
    assert public(keepalive.AbortController().signal) == [
        "aborted",
        "add_callback",
        "reason",
        "remove_callback",
        "wait",
    ]
    assert public(keepalive.KeepaliveStream) == ["abort", "signal"]


def public(thing: object) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_")]


EFFECTS = """
import atexit, gc, json, logging, os, signal, sys, threading, warnings
{first}

def seen():
    return {{
        "signals": [repr(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "wakeup": signal.set_wakeup_fd(-1),
        "threads": [t.name for t in threading.enumerate()],
        "handlers": [repr(logging.getLogger(n).handlers) for n in (None, "keepalive")],
        "levels": [logging.getLogger(n).level for n in (None, "keepalive")],
        "filters": repr(warnings.filters),
        "atexit": atexit._ncallbacks(),
        "hooks": [repr(x) for x in (sys.meta_path, sys.path_hooks, sys.path, sys.excepthook)],
        "environ": dict(os.environ),
        "files": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "gc": [gc.get_threshold(), len(gc.callbacks)],
        "trace": [repr(sys.gettrace()), repr(sys.getprofile())],
    }}

before = seen()
import {module}
after = seen()
effects = [name for name in before if before[name] != after[name]]
foreign = ("trio", "uvloop", "starlette", {others})
effects += [name for name in foreign if name in sys.modules]
print(json.dumps(effects))
"""


def effects_of_importing(
    module: str, folder: Path, first: str = "", others: str = ""
) -> list[str]:
    """Return what an import does besides importing; its dependencies' doings apart."""
    done = subprocess.run(
        [sys.executable, "-c", EFFECTS.format(module=module, first=first, others=others)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(keepalive.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[0])


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
"""
"""A thread that outlasts the look at it, and that the process doesn't wait for."""


def test_an_import_has_no_effects(tmp_path):
    first = "import asyncio, anyio, anyio.lowlevel, typing_extensions"
    assert effects_of_importing("keepalive", tmp_path, first, "'keepalive.testing'") == []
    for module in ("keepalive.testing", "keepalive.__main__"):
        assert effects_of_importing(module, tmp_path, f"{first}, anyio.to_thread") == []


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("import signal; signal.signal(signal.SIGTERM, lambda *_: None)", "signals"),
        (THREAD, "threads"),
        ("import logging; logging.basicConfig()", "handlers"),
        ("import logging; logging.getLogger('keepalive').setLevel(10)", "levels"),
        ("import atexit; atexit.register(print)", "atexit"),
        ("import os; os.environ['X'] = 'y'", "environ"),
        ("import warnings; warnings.simplefilter('ignore')", "filters"),
        ("import sys; sys.excepthook = print", "hooks"),
        ("import trio", "trio"),
    ],
)
def test_an_import_with_an_effect_is_seen(tmp_path, text, effect):
    (tmp_path / "example.py").write_text(text)
    assert effect in effects_of_importing("example", tmp_path)
