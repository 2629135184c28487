"""The servers that are compared, one in a process: `python contestants.py NAME PORT INTERVAL`.

The port is the first line printed, as soon as connections are accepted; 0 lets the system
choose one. It serves until it is killed: no stream is waited for.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

BACKLOG: Final = 4096


def _unwrapped(_: float) -> Any:
    from raw_apps import unwrapped

    return unwrapped


def _forward_only(_: float) -> Any:
    from raw_apps import forward_only, unwrapped

    return forward_only(unwrapped)


def _floor(interval: float) -> Any:
    from raw_apps import floor

    return floor(interval)


def _ours(interval: float) -> Any:
    from raw_apps import unwrapped

    from keepalive import KeepaliveMiddleware

    return KeepaliveMiddleware(unwrapped, interval=interval)


def _framework(name: str) -> Callable[[float], Any]:
    def made(interval: float) -> Any:
        import framework_apps

        return getattr(framework_apps, name)(interval)

    return made


def _aiohttp(name: str) -> Callable[[float], Any]:
    def made(interval: float) -> Any:
        import aiohttp_apps

        return getattr(aiohttp_apps, name)(interval)

    return made


ASGI: Final[dict[str, Callable[[float], Any]]] = {
    "unwrapped": _unwrapped,
    "forward only": _forward_only,
    "floor": _floor,
    "asgi-keepalive": _ours,
    "Starlette": _framework("starlette"),
    "Starlette + asgi-keepalive": _framework("starlette_with_ours"),
    "sse-starlette": _framework("sse_starlette"),
    "FastAPI": _framework("fastapi"),
    "FastAPI native SSE": _framework("fastapi_native"),
}
H11: Final = {
    f"{name}, h11": ASGI[name] for name in ("unwrapped", "forward only", "asgi-keepalive")
}
"""The same apps under the parser that uvicorn uses where httptools is not installed."""
AIOHTTP: Final[dict[str, Callable[[float], Any]]] = {
    "aiohttp": _aiohttp("unwrapped"),
    "aiohttp-sse": _aiohttp("aiohttp_sse"),
}


def serve_asgi(
    app: Any,
    sock: socket.socket,
    loop: str = "uvloop",
    http: str = "httptools",
    *,
    eager: bool = False,
) -> None:
    """Serve an ASGI app with uvicorn; `eager` tasks need Python 3.12 or later."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            if eager:
                asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            await super().startup(sockets)
            print(sock.getsockname()[1], flush=True)

    config = uvicorn.Config(
        app,
        loop=loop,
        http=http,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )
    Server(config).run(sockets=[sock])


def serve_aiohttp(app: Any, sock: socket.socket) -> None:
    """Serve an aiohttp app with aiohttp's own server on uvloop."""
    import aiohttp_apps
    import uvloop

    uvloop.run(aiohttp_apps.serve(app, sock, BACKLOG))


def main(name: str, port: str, interval: str) -> None:
    """Serve one contestant."""
    with socket.create_server(("127.0.0.1", int(port)), backlog=BACKLOG) as sock:
        if name in H11:
            serve_asgi(H11[name](float(interval)), sock, http="h11")
        elif name in ASGI:
            serve_asgi(ASGI[name](float(interval)), sock)
        else:
            serve_aiohttp(AIOHTTP[name](float(interval)), sock)


if __name__ == "__main__":
    main(*sys.argv[1:])
