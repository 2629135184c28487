"""An app that copies its scope, and one that asks without an end, on real servers."""

import contextlib
import socket
import sys
import time
import urllib.request

import pytest
from real.parts import need
from real.servers import cases
from real.servers.cases import Server, of

pytestmark = [pytest.mark.real, pytest.mark.parts]

APP = "real.servers.scope_copies_app:app"
FLAVOURS = [
    of("uvicorn", *cases.H11, needs=("h11", "hypercorn")),
    of("uvicorn", *cases.UVLOOP, needs=("httptools", "uvloop", "hypercorn")),
    of("hypercorn", "-w", "0"),
    of("granian", needs=("hypercorn",)),
]


@contextlib.contextmanager
def serving(flavour, folder):
    """Run a server with the app, and leave nothing of it behind."""
    need(*flavour.distributions)

    def command(port):
        words = cases.COMMANDS[flavour.server]
        words = [APP if word == cases.APP else word.format(port=port) for word in words]
        return [sys.executable, *words, *flavour.options]

    running = Server(flavour, folder / "server", {}, command)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module", params=FLAVOURS, ids=lambda flavour: flavour.name)
def server(request, tmp_path_factory):
    with serving(request.param, tmp_path_factory.mktemp("copying")) as running:
        yield running


def ask(server, path):
    with urllib.request.urlopen(server.url(path), timeout=10) as response:
        return response.status, response.read()


@pytest.mark.parametrize(
    ("path", "body"), [("/", b"data: ok\n\n"), ("/stream", b"data: 1\n\ndata: ok\n\n")]
)
def test_a_proxy_fix_within_the_middleware_answers(server, path, body):
    assert ask(server, path) == (200, body)


@pytest.mark.parametrize("options", [("-w", "0"), ("-k", "trio")], ids=" ".join)
def test_an_app_that_goes_on_asking_does_not_stop_hypercorn(tmp_path, options):
    """Which tells a disconnect once. uvicorn repeats it by itself, and stands still."""
    with serving(of("hypercorn", *options), tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(b"GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.5)
        time.sleep(0.5)
        assert ask(server, "/ok")[0] == 200
