"""The package's source: short functions, little inheritance, no state, no effect on import.

Each check is a function from source text to complaints, and is fed bad examples too.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from importlib import import_module

import pytest
from support.sources import SOURCES, of_each_module, statements

LONGEST_FUNCTION = 30
DEEPEST_INHERITANCE = 2  # a class and its base
MOST_OVERRIDDEN = 2
MOST_LINES_OF_THE_COMMAND = 256

# What may be called for a value at module or class level: it makes nothing that changes.
PURE_CALLS = {
    "re.compile",
    "logging.getLogger",
    "RunVar",  # a key: its values belong to event loops
    "frozenset",
    "TypeVar",
    "MappingProxyType",
    "field",
    "Ping.event",
    "Ping.comment",
    "Ping.blank_line",
}


def length_complaints(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{node.name} has {lines} lines"


def lines_of_code(text: str) -> set[int]:
    """Return the numbers of the lines that aren't blank, a comment or part of a docstring."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    no_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
    no_code |= {tokenize.DEDENT, tokenize.ENDMARKER}
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in no_code
        for line in range(token.start[0], token.end[0] + 1)
    }
    return code - docstrings


def aliases(tree: ast.Module) -> dict[str, str]:
    """Return what the imported names of a module stand for, as `keepalive._module.Name`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["keepalive" if node.level else "", node.module]))
            found |= {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.asname: a.name for a in node.names if a.asname}
    return found


class Classes:
    """The classes of the package, by module and name, and which of them inherit which."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        trees = {name: ast.parse(text) for name, text in sources.items()}
        self._aliases = {name: aliases(tree) for name, tree in trees.items()}
        self.nodes = {
            (name, node.name): node
            for name, tree in trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        }

    def find(self, module: str, dotted: str) -> tuple[str, str] | None:
        """Return the own class that a module calls by a name; `None`: it is none."""
        if (module, dotted) in self.nodes:
            return module, dotted
        head, *rest = dotted.split(".")
        full = ".".join([self._aliases.get(module, {}).get(head, head), *rest])
        root, _, inner = full.partition(".")
        if root != "keepalive" or not inner:
            return None
        its_module, _, name = inner.rpartition(".")
        its_module = its_module or "__init__"
        return None if (its_module, name) == (module, dotted) else self.find(its_module, name)

    def bases(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        names = [
            ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            for base in self.nodes[key].bases
        ]
        return [base for name in names if (base := self.find(key[0], name))]

    def ancestors(self, key: tuple[str, str]) -> set[tuple[str, str]]:
        return {x for base in self.bases(key) for x in {base, *self.ancestors(base)}}

    def depth(self, key: tuple[str, str]) -> int:
        return 1 + max(map(self.depth, self.bases(key)), default=0)

    def methods(self, key: tuple[str, str]) -> set[str]:
        """Return the names of a class's own methods, but for the constructor."""
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        return {x.name for x in self.nodes[key].body if isinstance(x, functions)} - {
            "__init__"
        }

    def overridden(self, key: tuple[str, str]) -> set[str]:
        inherited = {name for base in self.ancestors(key) for name in self.methods(base)}
        assigned = {
            part.id
            for node in self.nodes[key].body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        return inherited & (self.methods(key) | assigned)


def inheritance_complaints(sources: Mapping[str, str]) -> Iterator[str]:
    """Complain of deep inheritance between the package's own classes, and of many overrides.

    A constructor that extends its base's is no override.
    """
    classes = Classes(sources)
    overridden = []
    for module, name in classes.nodes:
        if (depth := classes.depth((module, name))) > DEEPEST_INHERITANCE:
            yield f"{module}.{name} is {depth} classes deep"
        overridden += [f"{name}.{it}" for it in sorted(classes.overridden((module, name)))]
    if len(overridden) > MOST_OVERRIDDEN:
        yield f"{len(overridden)} overridden methods: {', '.join(overridden)}"


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
    for node, _ in statements(body):
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


NAMES_AS_IMPORTED = """\
for _name in __all__:
    if getattr(globals()[_name], "__module__", "").startswith("keepalive."):
        globals()[_name].__module__ = __name__
"""
"""What the package does on import, apart from importing: it names its objects after itself."""


RUNS_AS_COMMAND = """\
if __name__ == "__main__":
    sys.exit(main())
"""
"""What the command does when it is run, and not when it is imported."""


def state_complaints(text: str) -> Iterator[str]:
    tree = ast.parse(text.replace(NAMES_AS_IMPORTED, "").replace(RUNS_AS_COMMAND, ""))
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


@pytest.mark.parametrize("check", [length_complaints, state_complaints])
def test_each_module_keeps_the_rules(check):
    assert of_each_module(check) == []


def test_inheritance_is_flat():
    assert list(inheritance_complaints(SOURCES)) == []


def test_no_module_holds_what_changes():
    modules = [import_module(f"keepalive.{x}") for x in SOURCES if x != "__init__"]
    assert [it for module in modules for it in live_state_complaints(module)] == []


def test_one_module_runs_as_a_command():
    assert [name for name, text in SOURCES.items() if RUNS_AS_COMMAND in text] == ["__main__"]


def test_the_command_is_short():
    assert len(lines_of_code(SOURCES["__main__"])) <= MOST_LINES_OF_THE_COMMAND


def test_lines_of_code_are_counted():
    text = '"""Say.\n\nMore.\n"""\n\n# A comment.\nA = """a\nb"""  # another\n\n'
    text += 'def f():\n    """Say."""\n    if A:\n        # A comment.\n'
    text += "        g(\n            1\n        )\n"
    assert lines_of_code(text) == {7, 8, 10, 12, 14, 15, 16}


def test_the_package_itself_only_imports_names():
    source = SOURCES["__init__"]
    assert NAMES_AS_IMPORTED in source
    kinds = {type(node) for node in ast.parse(source.replace(NAMES_AS_IMPORTED, "")).body}
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}


def test_what_is_too_long_is_seen():
    body = '    """Say.\n\n    And more.\n    """\n' + "    pass\n" * 29
    assert list(length_complaints(f"def f():\n{body}")) == []
    assert list(length_complaints(f"def f():\n{body}    pass\n")) == ["f has 31 lines"]
    method = "class A:\n    async def f(self):\n" + "        pass\n" * 30
    assert list(length_complaints(method)) == ["f has 31 lines"]


BASE = "class A:\n    def f(self): ...\n    async def g(self): ...\n    def h(self): ...\n"


@pytest.mark.parametrize(
    "sources",
    [
        {"_a": "class A: ...\nclass B(A): ...\nclass C(B): ..."},
        {"_a": "class A(Generic[T]): ...\nclass B(A[int]): ...\nclass C(B[str], Other): ..."},
        {"_a": "class A: ...", "_b": "from ._a import A\nclass B(A): ...\nclass C(B): ..."},
        {
            "_a": "class A: ...",
            "_b": "from ._a import A as X\nclass B(X): ...\nclass C(B): ...",
        },
        {"_a": "class A: ...", "_b": "from . import _a\nclass B(_a.A): ...\nclass C(B): ..."},
        {
            "_a": "class A: ...\nclass B(A): ...",
            "_b": "import keepalive._a\nclass C(keepalive._a.B): ...",
        },
        {
            "_a": "class A: ...\nclass B(A): ...",
            "_b": "import keepalive._a as x\nclass C(x.B): ...",
        },
        {
            "__init__": "from ._a import B",
            "_a": "class A: ...\nclass B(A): ...",
            "_b": "from keepalive import B\nclass A(B): ...",
        },
        {
            "_a": BASE
            + "class B(A):\n    def f(self): ...\n    async def g(self): ...\n    h = None"
        },
        {"_a": BASE + "class B(A):\n    f = g = _nothing\n    h: Hook = _nothing"},
        {
            "_a": BASE
            + "class B(A):\n    f = g = None\nclass C(A):\n    @property\n    def f(self): ..."
        },
        {
            "_a": BASE,
            "_b": "from ._a import A\nclass B(A):\n    f = g = None",
            "_c": "from ._a import A\nclass C(A):\n    h = None",
        },
    ],
)
def test_inheritance_is_seen(sources):
    assert len(list(inheritance_complaints(sources))) == 1


@pytest.mark.parametrize(
    "sources",
    [
        {"_a": "class A: ...\nclass B(A): ...\nclass C(A): ..."},
        {"_a": "class A(Protocol):\n    def f(self): ...\nclass B(NamedTuple):\n    f: int"},
        {"_a": "class A(Base): ...\nclass B(A): ...", "_b": "class Base: ..."},  # not imported
        {"_a": "from json import A\nclass B(A): ...", "_b": "class A(B): ..."},
        {"_a": BASE + "class B(A):\n    def f(self): ...\n    h = None\n    def i(self): ..."},
        {"_a": BASE + "class B:\n    f = g = h = None"},
        {
            "_a": "class A:\n    __slots__ = ('a',)\n    def __init__(self): ...\n"
            "class B(A):\n    __slots__ = ('b',)\n    def __init__(self): ...\n" * 3
        },
    ],
)
def test_flat_inheritance_is_allowed(sources):
    assert list(inheritance_complaints(sources)) == []


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
    assert list(state_complaints(text))


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
    assert list(state_complaints(text)) == []


def test_live_state_is_seen():
    module = type(sys)("example")
    module.fine = ("a", 1)
    assert list(live_state_complaints(module)) == []
    module.seen = {}
    module.more = ([],)
    assert len(list(live_state_complaints(module))) == 2
