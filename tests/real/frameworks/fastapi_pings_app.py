"""FastAPI's native streams, whose own pings come sooner here than after 15 seconds.

That is a constant of FastAPI's and no setting; it is replaced in this process, for the tests
not to wait so long.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

import fastapi.routing
from real.frameworks.fastapi_native_app import app
from real.frameworks.streams import OPTIONS
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware

PING = 0.16


def variants() -> dict[str, ASGIApp]:
    """Return the app kept alive, at shorter and at longer intervals than its own."""
    fastapi.routing._PING_INTERVAL = PING
    kept, rarely = app(), app()
    kept.add_middleware(KeepaliveMiddleware, **OPTIONS)
    rarely.add_middleware(KeepaliveMiddleware, **(OPTIONS | {"interval": 5.0}))
    return {"kept": kept, "rarely": rarely}
