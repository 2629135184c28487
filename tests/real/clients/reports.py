"""A page that reads a stream and reports what it got, for browsers that nothing drives.

`/browser/page?stream=PATH&report=/browser/report/KEY` is the page. Its report is returned by
`GET /browser/report/KEY`, which waits for it.
"""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Final

from real.clients.protocol_apps import answer, body_of, say
from support.internals import Receive, Scope, Send

PREFIX: Final = "/browser/"
PAGE: Final = Path(__file__).with_name("reporting_page.html")
REPORTS: Final[defaultdict[str, asyncio.Queue[object]]] = defaultdict(asyncio.Queue)
"""What was reported, by path."""


async def reports(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the page, take its report, and return that."""
    if scope["path"] == f"{PREFIX}page":
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await say(send, PAGE.read_bytes(), more=False)
    elif scope["method"] == "POST":
        REPORTS[scope["path"]].put_nowait(await body_of(receive))
        await answer(send, {})
    else:
        await answer(send, await REPORTS[scope["path"]].get())
