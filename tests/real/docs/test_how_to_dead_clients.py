"""The how-to about dead clients: who learns of one and when, and that its programs are right.

The client is in a network of its own, at the other end of a virtual cable, and loses its
address: nothing answers any more. That needs Linux, root and `ip`; elsewhere it is skipped.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from real.processes import EXAMPLES, PATH, Process, running, wait_for

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the option is Linux's"
    ),
]

PAGE = EXAMPLES.parent / "how-to" / "dead-clients.md"
APP = '''
import json, os, socket
import anyio
from keepalive import KeepaliveMiddleware

def tell(fact):
    print(type(fact).__name__, getattr(fact, "reason", ""), flush=True)

async def serve(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/timeouts":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(timeouts()).encode()})
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await anyio.sleep(300)

def timeouts():
    """The option of each TCP connection that this process has been called on."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.getsockname()[1] == int(os.environ["PORT"]) and sock.getpeername():
                    found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        except (OSError, IndexError):
            pass
    return found

app = KeepaliveMiddleware(serve, interval=1.0, observer=tell)
'''
IMPORTS = """
import sys
import anyio, uvicorn
from daphne.server import Server
from hypercorn.asyncio import serve
from hypercorn.config import Config
from main import app
"""


def blocks():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def programs():
    """Return what the page gives to each server."""
    rows = re.findall(r"^\| (\w.*?) \| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


def write(folder: Path, program: str) -> Path:
    """Write an app, and a program of the page's that serves it."""
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(APP)
    listen, when_ready = blocks()
    (folder / "gunicorn.conf.py").write_text(when_ready)
    path = folder / "program.py"
    path.write_text(
        f"{IMPORTS}{listen}\nif __name__ == '__main__':\n"
        f"    host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])\n"
        f"    listener = listen(host, port, seconds)\n    {program}\n"
    )
    return path


def command(name: str, folder: Path, host: str, port: int, seconds: float) -> list[str]:
    """Return a command that has a server listen, as the page says."""
    path = write(folder, programs().get(name, "pass"))
    environ = ["env", f"PORT={port}", f"PYTHONPATH={folder}{os.pathsep}{PATH}"]
    if name == "granian":
        own = ["--interface", "asgi", "--host", host, "--port", str(port), "main:app"]
        return [*environ, sys.executable, "-m", "granian", *own]
    if name == "gunicorn":
        own = ["-k", "uvicorn_worker.UvicornWorker", "-b", f"{host}:{port}", "main:app"]
        return [*environ, sys.executable, "-m", "gunicorn", *own]
    return [*environ, sys.executable, str(path), host, str(port), str(seconds)]


def test_the_page_has_a_program_for_each_server():
    assert list(programs()) == ["uvicorn", "uvicorn, workers", "hypercorn", "daphne"]


def serve(name: str, folder: Path) -> AbstractContextManager[Process]:
    """Run a server whose listening socket has a timeout of 30 seconds, as the page says."""
    return running(name, lambda port: command(name, folder, "127.0.0.1", port, 30), folder)


def timeouts(server: Process) -> set[int]:
    """Return the timeouts, in ms, of a new connection and of those open beside it."""
    with urllib.request.urlopen(server.url("/timeouts"), timeout=20) as response:
        return set(json.load(response))


@pytest.mark.parametrize("name", programs())
def test_each_connection_of_a_server_inherits_it(name, tmp_path):
    with serve(name, tmp_path) as server:
        assert timeouts(server) == {30_000}


def test_the_connections_of_gunicorn_inherit_it_once_its_hook_has_run(tmp_path):
    with serve("gunicorn", tmp_path) as server:
        wait_for(lambda: timeouts(server) == {30_000}, f"the option, see {tmp_path}")


class Cable:
    """Two networks and a cable between them; servers at the near end, a client at the far."""

    def __init__(self) -> None:
        name = f"ka{os.getpid()}"
        self.near, self.far = f"{name}n", f"{name}f"
        self.processes: list[subprocess.Popen[bytes]] = []

    def lay(self) -> None:
        for name in (self.near, self.far):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ends = ("peer", "name", "end", "netns", self.far)
        ip("link", "add", "end", "netns", self.near, "type", "veth", *ends)
        for name, address in ((self.near, HOST), (self.far, "192.0.2.2")):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "end")
            ip("-n", name, "link", "set", "end", "up")

    def run(self, name: str, command: list[str], folder: Path) -> Path:
        """Run a program in a network; return where it prints."""
        folder.mkdir(exist_ok=True)
        log = folder / "log"
        with log.open("wb") as file:
            started = ["ip", "netns", "exec", name, "env", "PYTHONUNBUFFERED=1", *command]
            self.processes.append(
                subprocess.Popen(
                    started,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    cwd=folder,
                    start_new_session=True,  # granian's worker is to go with it
                )
            )
        return log

    def lose_client(self) -> None:
        """Leave nobody there who could answer, and nobody who says so."""
        ip("-n", self.far, "addr", "flush", "dev", "end")

    def remove(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def ip(*what: str) -> None:
    subprocess.run(["ip", *what], check=True, capture_output=True, timeout=20)


@pytest.fixture
def cable():
    if shutil.which("ip") is None:
        pytest.skip("the program `ip` is not installed (on Debian: iproute2)")
    made = Cable()
    try:
        try:
            made.lay()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no networks can be made here: {getattr(error, 'stderr', error)!r}")
        yield made
    finally:
        made.remove()


HOST = "192.0.2.1"  # for documentation, and of these networks alone
CLIENT = """
import socket, sys, time
for port in map(int, sys.argv[2:]):
    while True:
        try:
            sock = socket.create_connection((sys.argv[1], port), 20)
            break
        except OSError:
            time.sleep(0.1)
    globals()[f"sock{port}"] = sock
    sock.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    while b"ping" not in (data := sock.recv(4096)):
        assert data, "the server has gone"
print("reads all")
time.sleep(300)
"""


SERVERS = {  # port: server, and the seconds that it is given; with 0 the kernel's own hold
    8001: ("uvicorn", 2),
    8002: ("uvicorn", 0),
    8003: ("granian", 0),  # takes none
}


def serve_all(cable: Cable, folder: Path) -> list[Path]:
    """Run the servers, and a client that reads a ping of each; return the servers' logs."""
    logs = []
    for port, (name, seconds) in SERVERS.items():
        own = folder / str(port)
        logs.append(cable.run(cable.near, command(name, own, HOST, port, seconds), own))
    reader = [sys.executable, "-c", CLIENT, HOST, *map(str, SERVERS)]
    client = cable.run(cable.far, reader, folder / "client")
    wait_for(lambda: "reads all" in client.read_text(), f"a client, see {logs}")
    return logs


def noticed_disconnect(log: Path) -> bool:
    return "StreamEnded disconnected" in log.read_text(encoding="utf-8")


def pings(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("PingSent")


def has_pings(log: Path, count: int) -> bool:
    return pings(log) >= count


@pytest.mark.timeout(150)
def test_a_dead_client_is_noticed_in_seconds_and_without_the_option_it_is_not(cable, tmp_path):
    noticed, *unnoticed = serve_all(cable, tmp_path)
    cable.lose_client()
    wait_for(partial(noticed_disconnect, noticed), f"the end, see {noticed}")
    for log in unnoticed:
        wait_for(partial(has_pings, log, pings(log) + 3), f"pings into nowhere, see {log}")
        assert "StreamEnded" not in log.read_text()
    # The kernel's own patience, which it looks at before it sends anything again.
    setting = "echo 1 > /proc/sys/net/ipv4/tcp_retries2"
    ip("netns", "exec", cable.near, "sh", "-c", setting)
    for log in unnoticed:
        wait_for(partial(noticed_disconnect, log), f"the end, see {log}", 40)
