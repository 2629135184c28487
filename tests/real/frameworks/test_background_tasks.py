"""Apps that listen, under uvicorn: an end by the middleware costs none its background task."""

import contextlib
import json
import socket
import threading
import urllib.request

import pytest
from real.frameworks.background_task_app import TASKS
from real.http_clients import TESTS, Server
from real.processes import wait_for

pytestmark = pytest.mark.real

STREAMS = 24
LOOPS = [("h11", "asyncio"), ("httptools", "uvloop")]


@pytest.fixture(scope="module", params=LOOPS, ids="-".join)
def serving(request, tmp_path_factory):
    http, loop = request.param
    folder = tmp_path_factory.mktemp(f"listening-{http}-{loop}")
    options = ("--http", http, "--loop", loop)
    server = Server(folder, "real.frameworks.background_task_app:app", TESTS, *options)
    yield server
    server.stop()


def ask(server, path):
    with urllib.request.urlopen(server.url(path), timeout=10) as response:
        return response.read()


def read_to_the_end(server, path, over):
    """Read a stream until it ends, or until everybody leaves."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            while not over.is_set() and client.recv(65536):
                pass


@pytest.mark.parametrize("variant", TASKS)
def test_all_background_tasks_run(serving, variant):
    """Of the plain app as its clients leave, of the others as their streams are ended."""

    def counted(what):
        return json.loads(ask(serving, f"/{variant}/counts")).get(what, 0)

    over, path = threading.Event(), f"/{variant}/events/"
    clients = [
        threading.Thread(target=read_to_the_end, args=(serving, path, over))
        for _ in range(STREAMS)
    ]
    for client in clients:
        client.start()
    try:
        wait_for(lambda: counted("opened") == STREAMS, "all streams")
        if variant == "plain":
            over.set()
        else:
            ask(serving, f"/{variant}/abort")
        for client in clients:
            client.join(10)
            assert not client.is_alive(), "a stream has not been ended"
    finally:
        over.set()
        for client in clients:
            client.join(10)
    with contextlib.suppress(AssertionError):  # the count says more
        wait_for(lambda: counted("saved") == STREAMS, "all tasks", TASKS[variant] + 5)
    assert counted("saved") == STREAMS
    assert serving.new_complaints() == []
