"""The page about home-made wrappers: they fail as it says, and the middleware does not."""

import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.harness import END, PING, body, play

from keepalive import KeepaliveMiddleware
from keepalive.testing import timeline

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAMS = DOCS / "examples" / "home_made"

pytestmark = [
    pytest.mark.slow,  # runs programs
    pytest.mark.skipif(
        not PROGRAMS.exists(), reason="the examples are not in this copy of the tests"
    ),
]


def shown() -> list[tuple[str, str]]:
    """Return the programs of the page, and the output that it shows for each."""
    if not PROGRAMS.exists():
        return []
    text = (DOCS / "why.md").read_text(encoding="utf-8")
    return re.findall(
        r"home_made/(\w+)\.py\n.*?^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )


def program(name: str):
    """Import a program."""
    spec = importlib.util.spec_from_file_location(f"home_made_{name}", PROGRAMS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "output"), shown())
def test_the_program_prints_what_the_page_shows(name, output):
    done = subprocess.run(
        [sys.executable, PROGRAMS / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == output


@pytest.mark.parametrize(("name", "_output"), shown())
def test_the_page_shows_whole_functions(name, _output):
    """The lines that the page includes are the wrapper and its source, or the client."""
    text = (DOCS / "why.md").read_text(encoding="utf-8")
    first, last = re.findall(rf"home_made/{name}\.py\n:lines: (\d+)-(\d+)\n", text)[0]
    lines = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8").splitlines()
    part = "\n".join(lines[int(first) - 1 : int(last)])
    compile(part, name, "exec")
    assert lines[int(last)] == "" != lines[int(last) - 1]
    assert re.search("^(async )?def ", part, re.MULTILINE)


def test_every_program_is_on_the_page():
    assert {name for name, _ in shown()} == {path.stem for path in PROGRAMS.glob("*.py")}
    assert len(shown()) == 7


def served(source, **options):
    """Serve what a program's source yields, with pings after a tenth of a second."""

    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for part in source():
            await send(body(part.encode()))
        await send({"type": "http.response.body"})

    return timeline(KeepaliveMiddleware(app, interval=0.1), "/", seconds=10.0, **options)


def test_an_answer_is_not_cancelled():
    assert served(program("cancelled").answer) == [
        (0.0, 200),
        (0.0, b"data: thinking\n\n"),
        (0.1, PING),
        (0.2, PING),
        (0.25, b"data: 42\n\n"),
        (0.25, "end"),
    ]


def test_a_context_variable_is_reset_where_it_was_set():
    assert served(program("context").answer)[-2:] == [(0.25, b"data: 42\n\n"), (0.25, "end")]


def test_a_ping_waits_for_the_end_of_an_event():
    assert served(program("split").upstream) == [
        (0.0, 200),
        (0.0, b'data: {"answer":\n'),
        (0.15, b"data: 42}\n\n"),
        (0.15, PING),
        (0.15, "end"),
    ]


def test_an_error_reaches_the_server():
    source = program("lost_error").answer
    with pytest.raises(ConnectionError, match="the model has gone"):
        served(source)


def test_a_slow_client_slows_the_app_down(backend):
    sent, seen = [], []

    async def busy(scope, receive, send):
        for number in range(20):
            sent.append(number)
            await send(body(b"data: x\n\n"))

    def prepare(world):
        world.slow = lambda message: 1.0

    play(
        backend,
        [(0, busy), (0, END)],
        prepare=prepare,
        at=[(5.5, lambda: seen.append(len(sent)))],
    )
    assert seen == [5]


def test_the_ping_depends_on_the_request():
    parse = program("one_ping").client

    async def answers():
        yield 'data: {"answer": 41}\n\n'
        await asyncio.sleep(0.25)
        yield 'data: {"answer": 42}\n\n'

    sent = served(answers, method="POST")
    assert sent.count((0.1, b": ping\n")) == 1
    text = b"".join(part for _, part in sent if isinstance(part, bytes)).decode()
    assert list(parse(text)) == [{"answer": 41}, {"answer": 42}]
