"""The notes on deployment: when connections to a database are closed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest

from keepalive import KeepaliveMiddleware
from keepalive.testing import timeline

FILE = Path(__file__).parents[2] / "docs" / "how-to" / "deployment-notes.md"

pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason="the pages are not in this copy of the tests"
)


def test_a_dependency_is_open_as_long_as_its_stream():
    fastapi = pytest.importorskip("fastapi")
    import anyio
    from fastapi.responses import StreamingResponse

    app, opened, seen = fastapi.FastAPI(), [], {}
    app.add_middleware(KeepaliveMiddleware)

    def connection() -> Iterator[str]:
        opened.append("connection")
        yield opened[0]
        opened.pop()

    Connection = Annotated[str, fastapi.Depends(connection)]

    @app.get("/")
    async def stream(_connection: Connection) -> StreamingResponse:
        async def events():
            yield "data: x\n\n"
            await anyio.sleep(20)

        return StreamingResponse(events(), media_type="text/event-stream")

    sent = timeline(app, "/", at={19: lambda: seen.update(late=len(opened))})
    assert sent[-1] == (20.0, "end")
    assert seen == {"late": 1}
    assert opened == []


def test_the_program_closes_its_connection_before_it_streams():
    pytest.importorskip("fastapi")
    blocks = re.findall(r"^```python\n(.*?)^```$", FILE.read_text(), re.MULTILINE | re.DOTALL)
    counts: list[int] = []
    names: dict[str, object] = {"counts": counts}
    sends = '            yield f"data: {row}'
    assert sends in blocks[2]
    for block in blocks[:3]:
        exec(
            block.replace(sends, f"            counts.append(len(connections))\n{sends}"),
            names,
        )
    assert timeline(names["api"], "/report")[1:] == [(0.0, b"data: row\n\n"), (0.0, "end")]
    assert counts == [0]
