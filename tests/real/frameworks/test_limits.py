"""What a framework's own way sets bounds to, and no ping can help."""

import http.client
from contextlib import closing

import pytest
from real.frameworks.reading import Reading, Served
from real.parts import need

pytestmark = [pytest.mark.real, pytest.mark.parts]


@pytest.fixture
def serve(tmp_path):
    """Return what serves a framework; it is stopped at the end."""
    servers = []

    def start(name):
        servers.append(Served(name, tmp_path / name))
        return servers[-1]

    yield start
    for server in servers:
        server.process.stop()


def test_quart_ends_a_stream_after_its_response_timeout(serve):
    """Events have `response.timeout = None`, records have not; both are silent and pinged."""
    need("quart", "uvicorn")
    server = serve("quart")
    with (
        closing(Reading(server, "hurried", "/events")) as allowed,
        closing(Reading(server, "hurried", "/records")) as cut,
    ):
        with pytest.raises(http.client.IncompleteRead):
            cut.read()
        assert cut.pings >= 2
        assert server.wait(cut.token, "StreamEnded")["reason"] == "completed"
        allowed.read_pings(cut.pings + 2)
        server.open(allowed.token, 3)
        allowed.read()
        assert allowed.app_bytes == b"data: one\n\ndata: two\n\n"


@pytest.mark.parametrize(
    ("name", "parts", "sees"),
    [
        ("starlette", ("starlette", "starlette-compress"), {"lifespan", "http"}),
        ("litestar", ("litestar",), {"http"}),
    ],
)
def test_litestars_middlewares_see_no_lifespan(serve, name, parts, sees):
    need(*parts, "uvicorn")
    server = serve(name)
    with closing(Reading(server, "probed", "/whole")) as made:
        made.read()
        server.wait(made.token, "call over")
    found = {
        place: {fact["type"] for fact in server.of(place, "scope")}
        for place in ("inside", "outside")
    }
    assert found == {"inside": sees, "outside": {"lifespan", "http"}}
