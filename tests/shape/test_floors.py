"""The shape of the package's source: floors, lengths, laws and no state.

Each check is a function from source text to complaints, and is fed a bad example too.
"""

import ast
import sys
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from pathlib import Path

import pytest

import keepalive
import keepalive.testing

PACKAGE = Path(keepalive.__file__).parent
FLOORS = (
    {"_asgi", "_frames", "_backend", "_gone", "_line", "_windows"},
    {"_policy", "_abort", "_passage"},
    {"_routes", "_request", "_observe", "_head", "_heart", "_inbox", "_calls", "_times"},
    {"_owner", "_signals", "_late", "_surroundings"},
    {"_pulse"},
    {"_stream"},
    {"_bounds"},
    {"_early"},
    {"_middleware", "_view"},
    {"__init__", "testing"},
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
THIRD_PARTY = {"anyio", "typing_extensions"}
THIRD_PARTY_FOR_TYPES = {*THIRD_PARTY, "trio"}
LONGEST_FUNCTION = 30
LONGEST_FILE = 300

# What may be called for a value at module or class level: it makes nothing that changes.
PURE_CALLS = {
    "re.compile",
    "logging.getLogger",
    "RunVar",  # a key: its values belong to event loops
    "frozenset",
    "MappingProxyType",
    "field",
    "Ping.event",
}

MODULES = {path.stem: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def of_each_module(check):
    """Run a check over every module of the package."""
    return [f"{name}: {said}" for name, text in MODULES.items() for said in check(name, text)]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    }


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the dotted names of what is imported, own modules as `keepalive._name`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level > 1:
        return [f"{'.' * node.level}{node.module or ''}"]
    base = "keepalive" if node.level else ""
    module = ".".join(filter(None, [base, node.module]))
    if module == "keepalive":
        return [f"keepalive.{alias.name}" for alias in node.names]
    return [module]


def statements(body: list[ast.stmt], *, for_types: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Walk a module's own statements, and those under `if TYPE_CHECKING`."""
    for node in body:
        if is_type_checking(node):
            yield from statements(node.body, for_types=True)
        else:
            yield node, for_types


def import_complaints(name: str, text: str) -> Iterator[str]:
    tree = ast.parse(text)
    top = {id(node): for_types for node, for_types in statements(tree.body, for_types=False)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] in {
            "__import__",
            "import_module",
            "exec",
            "eval",
        }:
            yield f"line {node.lineno}: imports or runs by name"
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if id(node) not in top:
            yield f"line {node.lineno}: an import that is not at the top of the module"
        allowed = THIRD_PARTY_FOR_TYPES if top.get(id(node)) else THIRD_PARTY
        for target in imported(node):
            root, _, rest = target.partition(".")
            if root == "keepalive":
                own = rest.split(".")[0]
                if FLOOR_OF.get(own, sys.maxsize) >= FLOOR_OF[name]:
                    yield f"line {node.lineno}: {own or 'the face'} is not on a floor below"
            elif root not in allowed and root not in sys.stdlib_module_names:
                yield f"line {node.lineno}: {target} is no dependency"


def length_complaints(_: str, text: str) -> Iterator[str]:
    if (lines := len(text.splitlines())) > LONGEST_FILE:
        yield f"{lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{node.name} has {lines} lines"


def law_complaints(_: str, text: str) -> Iterator[str]:
    docstring = ast.get_docstring(ast.parse(text)) or ""
    if sum(line.startswith("Law: ") for line in docstring.splitlines()) != 1:
        yield "the module's docstring states no law, or several"


def frozen_classes(tree: ast.Module) -> set[str]:
    """Return the module's classes whose instances can't change: named tuples, frozen data."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and (
            [ast.unparse(base) for base in node.bases] == ["NamedTuple"]
            or any("frozen=True" in ast.unparse(x) for x in node.decorator_list)
        )
    }


def value_complaints(pure: set[str], node: ast.expr) -> Iterator[str]:
    """Complain of a module's or class's value that may change later."""
    for part in ast.walk(node):
        if isinstance(
            part,
            ast.List
            | ast.Dict
            | ast.Set
            | ast.ListComp
            | ast.DictComp
            | ast.SetComp
            | ast.GeneratorExp
            | ast.NamedExpr
            | ast.Await,
        ):
            yield f"line {part.lineno}: {ast.unparse(part)} may change"
        elif isinstance(part, ast.Call) and ast.unparse(part.func) not in pure:
            yield f"line {part.lineno}: {ast.unparse(part)} may make what changes"


def body_complaints(pure: set[str], body: list[ast.stmt]) -> Iterator[str]:
    for node, _ in statements(body, for_types=False):
        if isinstance(node, ast.ClassDef):
            yield from body_complaints(pure, node.body)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [ast.unparse(target) for target in targets]
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            if not all(isinstance(target, ast.Name) for target in targets):
                yield f"line {node.lineno}: {ast.unparse(node)} changes something else"
            elif node.value and names != ["__all__"] and kind != "TypeAlias":
                yield from value_complaints(pure, node.value)
        elif not (
            isinstance(
                node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef
            )
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ):
            yield f"line {node.lineno}: {ast.unparse(node)} does something on import"


def state_complaints(_: str, text: str) -> Iterator[str]:
    tree = ast.parse(text)
    pure = PURE_CALLS | frozen_classes(tree)
    yield from body_complaints(pure, tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: a global statement"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                yield from value_complaints(pure, default)
            for decorator in node.decorator_list:
                if "cache" in ast.unparse(decorator):
                    yield f"line {node.lineno}: {ast.unparse(decorator)} keeps results"


def changes(value: object) -> bool:
    """Whether a value can be put into, or taken out of."""
    if isinstance(value, tuple):
        return any(map(changes, value))
    return issubclass(type(value), MutableMapping | MutableSequence | MutableSet)


def live_state_complaints(module) -> Iterator[str]:
    """Complain of what a module holds at run time, whatever its source looks like."""
    for name, value in vars(module).items():
        dunder = name.startswith("__") and name.endswith("__")
        if not dunder and changes(value):
            yield f"{module.__name__}.{name} is {value!r}"


def test_every_module_is_on_one_floor():
    assert set(MODULES) == set(FLOOR_OF)
    assert sum(map(len, FLOORS)) == len(FLOOR_OF)


@pytest.mark.parametrize(
    "check", [import_complaints, length_complaints, law_complaints, state_complaints]
)
def test_the_package_keeps_its_shape(check):
    assert of_each_module(check) == []


def test_no_module_holds_what_changes():
    modules = [value for name, value in sys.modules.items() if name.startswith("keepalive.")]
    assert len(modules) == len(MODULES) - 1
    assert [said for module in modules for said in live_state_complaints(module)] == []


def test_the_face_is_names_and_nothing_else():
    kinds = {type(node) for node in ast.parse(MODULES["__init__"]).body}
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_policy", "from ._abort import AbortSignal"),  # the same floor
        ("_frames", "from ._stream import Stream"),  # above
        ("_frames", "import keepalive._stream"),
        ("_frames", "from keepalive import _stream"),
        ("_frames", "from keepalive import Ping"),
        ("_frames", "from . import _stream"),
        ("_frames", "import keepalive"),
        ("_frames", "from ._unheard import x"),
        ("_frames", "from .. import x"),
        ("_frames", "if TYPE_CHECKING:\n    from ._stream import Stream"),
        ("_stream", "def f():\n    from ._frames import Ping"),
        ("_stream", "try:\n    import json\nexcept ImportError:\n    pass"),
        ("_stream", "if not TYPE_CHECKING:\n    import json"),
        ("_stream", "import importlib\nimportlib.import_module('json')"),
        ("_stream", "__import__('json')"),
        ("_backend", "import trio"),
        ("_backend", "from trio import lowlevel"),
        ("_head", "import starlette.requests"),
        ("_head", "if TYPE_CHECKING:\n    import starlette"),
    ],
)
def test_a_bad_import_is_seen(name, text):
    assert len(list(import_complaints(name, text))) == 1


def test_a_good_import_is_not_complained_of():
    text = """
import json
from collections.abc import Callable
import anyio
from typing_extensions import override
from ._frames import Ping
from . import _abort
if TYPE_CHECKING:
    import trio
"""
    assert list(import_complaints("_stream", text)) == []


def test_what_is_too_long_is_seen():
    body = '    """Say.\n\n    And more.\n    """\n' + "    pass\n" * 29
    assert list(length_complaints("x", f"def f():\n{body}")) == []
    assert list(length_complaints("x", f"def f():\n{body}    pass\n")) == ["f has 31 lines"]
    method = "class A:\n    async def f(self):\n" + "        pass\n" * 30
    assert list(length_complaints("x", method)) == ["f has 31 lines"]
    assert list(length_complaints("x", "a = 1\n" * 300)) == []
    assert list(length_complaints("x", "a = 1\n" * 301)) == ["301 lines"]


@pytest.mark.parametrize(
    "text", ["", '"""Names."""', '"""Names.\n\nLaw:\n"""', '"""A.\n\nLaw: a\nLaw: b\n"""']
)
def test_a_missing_law_is_seen(text):
    assert list(law_complaints("x", text))
    assert list(law_complaints("x", '"""Names.\n\nLaw: names.\n"""')) == []


@pytest.mark.parametrize(
    "text",
    [
        "seen = []",
        "seen: Final = {}",
        "seen = {1}",
        "seen = ([],)",
        "seen = dict()",
        "seen = count()",
        "seen = [x for x in y]",
        "lock = threading.Lock()",
        "a = b = WeakSet()",
        "class A:\n    seen = {}",
        "class A:\n    b: int\na = A(1)",
        "@dataclass(slots=True)\nclass A:\n    b: int\na = A(1)",
        "class A(NamedTuple):\n    b: list\na = A([])",
        "def f(seen=[]):\n    pass",
        "def f(*, seen=set()):\n    pass",
        "def f():\n    global seen",
        "@lru_cache\ndef f():\n    pass",
        "@functools.cache\ndef f():\n    pass",
        "class A:\n    @cache\n    def f(self):\n        pass",
        "signal.signal(2, f)",
        "other.value = 1",
        "other['value'] = 1",
        "a += 1",
        "for a in b:\n    pass",
        "with a:\n    b = 1",
        "if a:\n    b = 1",
        "import a\ndel a",
    ],
)
def test_state_is_seen(text):
    assert list(state_complaints("x", text))


def test_a_constant_is_no_state():
    text = """
__all__ = ["a"]
A: Final = (1, b"x", "y")
B: TypeAlias = Callable[[], object]
C = re.compile("x")
D: Final = logging.getLogger("x")
class F(NamedTuple):
    a: int
@final
@dataclass(frozen=True)
class G:
    a: int
H: Final = F(1)
I: Final = G(a=1)
class E:
    __slots__ = ("a",)
    b: int = 1
    def f(self, c: tuple = ()):
        local = []
        nonlocal_ = {}
"""
    assert list(state_complaints("x", text)) == []


def test_live_state_is_seen():
    module = type(sys)("example")
    module.fine = ("a", 1)
    assert list(live_state_complaints(module)) == []
    module.seen = {}
    module.more = ([],)
    assert len(list(live_state_complaints(module))) == 2
