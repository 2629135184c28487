"""What the tests share, each started when it is first needed: a uvicorn for each pair of HTTP
parser and event loop, and the browser of each engine.

Each fixture ends what it has started, and checks the log.
"""

from collections.abc import Iterator

import pytest
from real import parts
from real.browsers.engines import ENGINES, Engine
from real.browsers.tab import Browser
from real.http_clients import TESTS, Server

FLAVOURS = [(http, loop) for http in ("h11", "httptools") for loop in ("asyncio", "uvloop")]


@pytest.fixture(scope="session", params=FLAVOURS, ids="-".join)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    http, loop = request.param
    folder = tmp_path_factory.mktemp(f"uvicorn-{http}-{loop}")
    server = Server(
        folder, "real.servers.uvicorn_apps:application", TESTS, "--http", http, "--loop", loop
    )
    yield server
    server.stop()
    assert server.new_complaints() == []


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """A running server, whose log says nothing bad of what the test did."""
    yield running
    assert running.new_complaints() == []


@pytest.fixture(scope="session", params=ENGINES, ids=lambda engine: engine.title)
def engine(request: pytest.FixtureRequest) -> Engine:
    parts.need(*request.param.parts)
    return request.param


@pytest.fixture(scope="session")
def browser(engine: Engine) -> Iterator[Browser]:
    running = engine.start()
    yield running
    running.stop()
