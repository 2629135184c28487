"""The rows of the tables: who is measured on which path, and whom it is compared with."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from processes import HERE, command_of

HONO: Final = "Hono streamSSE"
PACKAGES: Final = (
    "asgi-keepalive",
    "anyio",
    "uvicorn",
    "uvloop",
    "httptools",
    "starlette",
    "sse-starlette",
    "fastapi",
    "pydantic",
    "aiohttp",
    "aiohttp-sse",
)


class Row(NamedTuple):
    """One contestant on one path."""

    name: str
    contestant: str
    path: str
    base: str
    """The row of the same framework without pings."""

    @property
    def pings(self) -> bool:
        """Whether there are pings to count."""
        return self.name != self.base and self.contestant != "forward only"


def _row(contestant: str, base: str, path: str = "/idle") -> Row:
    name = contestant if path == "/idle" else f"{contestant}, non-listening app"
    return Row(name, contestant, path, base)


ROWS: Final = (
    _row("unwrapped", "unwrapped"),
    _row("forward only", "unwrapped"),
    _row("floor", "unwrapped"),
    _row("asgi-keepalive", "unwrapped"),
    _row("unwrapped", "unwrapped, non-listening app", "/idle-non-listening"),
    _row("asgi-keepalive", "unwrapped, non-listening app", "/idle-non-listening"),
    _row("Starlette", "Starlette"),
    _row("Starlette + asgi-keepalive", "Starlette"),
    _row("sse-starlette", "Starlette"),
    _row("FastAPI", "FastAPI"),
    _row("FastAPI native SSE", "FastAPI"),
    _row("aiohttp", "aiohttp"),
    _row("aiohttp-sse", "aiohttp"),
    _row(f"{HONO}, no pings", f"{HONO}, no pings"),
    _row(HONO, f"{HONO}, no pings"),
)
TICKING: Final = (
    _row("unwrapped", "unwrapped"),
    _row("asgi-keepalive", "unwrapped"),
    _row("Starlette", "Starlette"),
    _row("Starlette + asgi-keepalive", "Starlette"),
)
H11_ROWS: Final = tuple(
    _row(f"{name}, h11", "unwrapped, h11")
    for name in ("unwrapped", "forward only", "asgi-keepalive")
)
BUSY: Final = (
    *(
        row
        for row in ROWS
        # The floor passes a busy stream on as it is; so do both of Hono's handlers.
        if row.path == "/idle" and row.name not in ("floor", f"{HONO}, no pings")
    ),
    *H11_ROWS,
)

Commands = dict[str, Callable[[float], list[str]]]


def commands(left_out: dict[str, str]) -> Commands:
    """Return, by contestant, what gives the command that serves it with an interval.

    Contestants that can't run here are left out, with the reason.
    """
    made: Commands = {}
    for row in (*ROWS, *H11_ROWS):
        name = row.contestant
        made[name] = lambda interval, name=name: command_of(name, interval)
    bare = f"{HONO}, no pings"
    try:
        server = str(hono_server())
    except (OSError, subprocess.SubprocessError) as error:
        left_out[HONO] = left_out[bare] = str(error)
        del made[HONO], made[bare]
    else:
        node = ["node", "--expose-gc", server, "0"]
        made[HONO] = lambda interval: [*node, str(interval)]
        made[bare] = lambda _: [*node, "0"]
    return made


def hono_server() -> Path:
    """Return the program that serves Hono, installed in the user's cache folder.

    Raises:
        OSError: Node.js or npm is not here.
        subprocess.SubprocessError: npm could not install it.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"{program} is not installed")
    files = [HERE / "hono" / name for name in ("package.json", "server.mjs")]
    content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "asgi-keepalive-benchmarks" / f"hono-{content}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    if not (folder / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=folder, check=True, timeout=120)
    return folder / "server.mjs"


def versions(left_out: dict[str, str]) -> dict[str, Any]:
    """Return the version of everything that is measured."""
    found = {name: version(name) for name in PACKAGES}
    if HONO not in left_out:
        package = json.loads((HERE / "hono" / "package.json").read_text(encoding="utf-8"))
        found |= package["dependencies"]
        node = ["node", "--version"]
        output = subprocess.run(node, capture_output=True, text=True, check=True).stdout
        found["node"] = output.strip().removeprefix("v")
    return found
