"""What a module may import: its own layer and those below it, and two dependencies.

Each check is a function from source text to complaints, and is fed bad examples too.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest
from support.sources import SOURCES, of_each_module, statements

# From the top to the bottom. The order of the names within a layer means nothing.
LAYERS = {
    "public": "__init__ testing __main__",
    "entry": "_middleware _view _signals",
    "response": (
        "_early _late _ending _connection _responder _live _request _nesting _activity "
        "_inflight _config"
    ),
    "loop": "_scheduler _timerqueue _eventloop _abort",
    "values": (
        "_routing _policy _timing _defaultping _ping _boundary _headers _body _events _types"
    ),
}
THIRD_PARTY = {"anyio", "typing_extensions"}
THIRD_PARTY_FOR_TYPES = {*THIRD_PARTY, "trio"}
IMPORTS_BY_NAME = {"__import__", "import_module", "exec", "eval"}


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the dotted names of what is imported, the package's own from `keepalive` on."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level > 1:
        return [f"{'.' * node.level}{node.module or ''}"]
    module = ".".join(filter(None, ["keepalive" if node.level else "", node.module]))
    if module == "keepalive":
        return [f"keepalive.{alias.name}" for alias in node.names]
    return [module]


def own_imports(text: str, modules: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each of the package's modules that a text imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in imported(node):
                root, _, rest = target.partition(".")
                if root == "keepalive":
                    name = rest.split(".")[0]
                    is_module = name in modules or name.startswith("_")
                    yield node.lineno, name if is_module else "__init__"  # a public name


def table_complaints(layers: Mapping[str, str], sources: Mapping[str, str]) -> Iterator[str]:
    """Complain of a module that is not in exactly one layer, or does not exist."""
    listed = " ".join(layers.values()).split()
    yield from (f"{name} is in no layer" for name in sources if name not in listed)
    for name in dict.fromkeys(listed):
        if listed.count(name) > 1:
            yield f"{name} is in several layers"
        if name not in sources:
            yield f"{name} does not exist"


def layer_complaints(layers: Mapping[str, str], sources: Mapping[str, str]) -> Iterator[str]:
    """Complain of imports from a layer above, those for type checkers included.

    And of any import of the command, which is run and not imported.
    """
    names = list(layers)
    layer_of = {module: layer for layer in names for module in layers[layer].split()}
    for module, text in sources.items():
        for line, other in own_imports(text, layer_of):
            if other not in layer_of:
                yield f"{module}, line {line}: {other} is in no layer"
            elif other == "__main__":
                yield f"{module}, line {line}: {other} is a command"
            elif module in layer_of:
                own, its = layer_of[module], layer_of[other]
                if names.index(its) < names.index(own):
                    yield f"{module} ({own}), line {line}: {other} is above it ({its})"


def cycle_complaints(sources: Mapping[str, str]) -> Iterator[str]:
    """Complain of one cycle of imports, if there is any."""
    graph = {
        module: {name for _, name in own_imports(text, sources)}
        for module, text in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"a cycle: {' imports '.join(reversed(error.args[1]))}"


def import_complaints(text: str) -> Iterator[str]:
    """Complain of late imports, and of whatever is no dependency."""
    tree = ast.parse(text)
    top = {id(node): for_types for node, for_types in statements(tree.body)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func).rsplit(".", 1)[-1] in IMPORTS_BY_NAME:
                yield f"line {node.lineno}: imports or runs by name"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            if id(node) not in top:
                yield f"line {node.lineno}: an import that is not at the top of the module"
            allowed = THIRD_PARTY_FOR_TYPES if top.get(id(node)) else THIRD_PARTY
            for target in imported(node):
                root = target.split(".")[0]
                if root not in allowed | sys.stdlib_module_names | {"keepalive"}:
                    yield f"line {node.lineno}: {target} is no dependency"


def test_each_module_is_in_one_layer():
    assert list(table_complaints(LAYERS, SOURCES)) == []


def test_a_module_imports_from_its_layer_and_those_below():
    assert list(layer_complaints(LAYERS, SOURCES)) == []


def test_no_imports_form_a_cycle():
    assert list(cycle_complaints(SOURCES)) == []


def test_imports_are_at_the_top_and_of_dependencies():
    assert of_each_module(import_complaints) == []


@pytest.mark.parametrize(
    ("modules", "complaints"),
    [
        ("_a _b _c", []),
        ("_a _b _c _d", ["_d is in no layer"]),
        ("_a _c", ["_b does not exist"]),
        ("_a _b _c __init__", ["__init__ is in no layer"]),
        ("_a _b _c _loop._d", ["_loop._d is in no layer"]),
    ],
)
def test_a_module_in_no_layer_is_seen(modules, complaints):
    layers = {"upper": "_a _b", "lower": "_c"}
    assert list(table_complaints(layers, dict.fromkeys(modules.split(), ""))) == complaints


def test_a_module_in_several_layers_is_seen():
    sources = dict.fromkeys(["_a", "_b"], "")
    for layers in ({"upper": "_a", "lower": "_a _b"}, {"upper": "_a _a", "lower": "_b"}):
        assert list(table_complaints(layers, sources)) == ["_a is in several layers"]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("_types", "from ._abort import AbortSignal"),  # the layer above
        ("_types", "from ._middleware import KeepaliveMiddleware"),  # the top
        ("_scheduler", "from ._live import LiveStream"),
        ("_live", "from ._view import KeepaliveStream"),
        ("_view", "from .testing import timeline"),
        ("_view", "from keepalive.testing import timeline"),
        ("_types", "import keepalive._live"),
        ("_types", "import json, keepalive._live as live"),
        ("_types", "from keepalive._live import LiveStream"),
        ("_types", "from keepalive import _live"),
        ("_types", "from . import _live"),
        ("_view", "from keepalive import Ping"),
        ("_view", "from . import Ping"),
        ("_view", "from keepalive import on_signals"),
        ("_view", "from keepalive import testing"),
        ("_view", "from .__main__ import main"),
        ("_view", "import keepalive"),
        ("_types", "if TYPE_CHECKING:\n    from ._live import LiveStream"),
        ("_types", "def f():\n    from ._live import LiveStream"),
        ("_view", "from ._unknown import x"),
        ("testing", "from ._unknown import x"),
        ("testing", "from keepalive.__main__ import main"),
    ],
)
def test_an_import_from_above_is_seen(module, text):
    assert len(list(layer_complaints(LAYERS, {module: text}))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("_headers", "from ._policy import Policy"),  # the same layer
        ("_boundary", "from . import _types, _ping"),
        ("_live", "import anyio\nfrom ._scheduler import Scheduler"),
        ("_view", "from ._types import Scope"),
        ("__init__", "from ._middleware import KeepaliveMiddleware\nfrom ._ping import Ping"),
        ("testing", "from ._eventloop import current_loop\nfrom ._types import Scope"),
        ("testing", "from keepalive import Ping, on_signals"),
        ("__main__", "from ._defaultping import choose_ping\nfrom . import testing"),
        ("testing", "import keepalive"),
    ],
)
def test_an_import_from_the_same_layer_or_below_is_allowed(module, text):
    assert list(layer_complaints(LAYERS, {module: text})) == []


@pytest.mark.parametrize(
    "sources",
    [
        {"_a": "from ._a import x"},
        {"_a": "from ._b import x", "_b": "from ._a import x"},
        {"_a": "from ._b import x", "_b": "from . import _c", "_c": "import keepalive._a"},
        {"_a": "from ._b import x", "_b": "if TYPE_CHECKING:\n    from ._a import x"},
        {"__init__": "from ._a import x", "_a": "from keepalive import x"},
    ],
)
def test_a_cycle_is_seen(sources):
    assert len(list(cycle_complaints(sources))) == 1


def test_a_cycle_is_reported_in_its_order():
    sources = {"_a": "from . import _b", "_b": "from . import _c", "_c": "from . import _a"}
    (complaint,) = cycle_complaints(sources)
    cycle = complaint.removeprefix("a cycle: ").split(" imports ")
    assert cycle[0] == cycle[-1]
    assert all(f"import {other}" in sources[one] for one, other in pairwise(cycle))


def test_what_is_imported_twice_is_no_cycle():
    text = "from . import _c"
    sources = {"_a": "from . import _b, _c", "_b": text, "_c": "import json"}
    assert list(cycle_complaints(sources)) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    from ._ping import Ping",
        "class A:\n    import json",
        "try:\n    import json\nexcept ImportError:\n    pass",
        "if not TYPE_CHECKING:\n    import json",
        "import importlib\nimportlib.import_module('json')",
        "__import__('json')",
        "import trio",
        "from trio import lowlevel",
        "import starlette.requests",
        "if TYPE_CHECKING:\n    import starlette",
        "from .. import x",
        "from ..other import x",
    ],
)
def test_a_bad_import_is_seen(text):
    assert len(list(import_complaints(text))) == 1


def test_a_good_import_is_allowed():
    text = """
import json
from collections.abc import Callable
import anyio
from typing_extensions import override
from ._ping import Ping
from . import _abort
import keepalive
if TYPE_CHECKING:
    import trio
"""
    assert list(import_complaints(text)) == []
