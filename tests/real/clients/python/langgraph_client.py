"""LangGraph's SDK for Python.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from langgraph_sdk import get_client, get_sync_client


async def run(url: str) -> AsyncIterator[Any]:
    async for part in get_client(url=url).runs.stream(None, "agent", input={}):
        yield list(part)


def run_sync(url: str) -> Iterator[Any]:
    for part in get_sync_client(url=url).runs.stream(None, "agent", input={}):
        yield list(part)


async def join(url: str) -> AsyncIterator[Any]:
    async for part in get_client(url=url).runs.join_stream("t1", "r1"):
        yield list(part)


READERS: Final = {"run": run, "run-sync": run_sync, "join": join}
