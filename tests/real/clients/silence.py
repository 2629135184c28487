"""Silences that last until pings have gone out."""

import asyncio
import contextlib
from typing import Final

from support.internals import Scope
from support.sent_pings import sent_pings

from keepalive import get_stream

INTERVAL: Final = 0.05
PATIENCE: Final = 15.0


async def quiet(scope: Scope, least: int = 2) -> None:
    """Be silent until so many pings have gone out.

    Where none will: not at all, or on an excluded route for as long as they would have taken.
    """
    if scope.get("delivery") == "excluded":
        await asyncio.sleep((least + 1) * INTERVAL)
        return
    with contextlib.suppress(LookupError):
        own = get_stream(scope)
        enough = sent_pings(own) + least
        async with asyncio.timeout(PATIENCE):
            while sent_pings(own) < enough and not own.signal.aborted:
                await asyncio.sleep(INTERVAL / 2)
