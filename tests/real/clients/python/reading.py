"""Reads streams with the clients of one module, all at the same time, in one process.

    python -m real.clients.python.reading MODULE [SECONDS]

A client that takes longer than these seconds hangs, and is left. Takes `[[READER, URL], ...]`
as JSON from its standard input, and prints the readings in that order: what the reader handed
to the user's code, the error, and the warnings logged meanwhile.
"""

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Final

BOUND: Final = "40"

_LOGGED: Final[ContextVar[list[str] | None]] = ContextVar("logged", default=None)


Reader = Callable[[str], AsyncIterator[Any] | Iterator[Any]]


def note(text: str) -> None:
    """Write a warning down where the reading that it belongs to finds it."""
    if (logged := _LOGGED.get()) is not None:
        logged.append(text)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.name}: {record.getMessage()}")


async def _hand_over(read: Reader, url: str, got: list[Any]) -> None:
    if not inspect.isasyncgenfunction(read):
        await asyncio.to_thread(got.extend, read(url))
        return
    async with contextlib.aclosing(read(url)) as items:
        async for item in items:
            got.append(item)


def _messages(raised: BaseException) -> Iterator[str]:
    """Yield the messages of an error, or of the members of a group."""
    if isinstance(raised, BaseExceptionGroup):
        for member in raised.exceptions:
            yield from _messages(member)
    else:
        yield f"{type(raised).__name__}: {raised}"


async def reading(read: Reader, url: str, bound: float) -> dict[str, Any]:
    """Read one stream to its end."""
    logged: list[str] = []
    _LOGGED.set(logged)  # its own: each reading is a task of its own
    got: list[Any] = []
    error = None
    try:
        async with asyncio.timeout(bound) as limit:
            await _hand_over(read, url, got)
    except TimeoutError as raised:
        error = f"hangs: nothing more in {bound:g} s" if limit.expired() else repr(raised)
    except Exception as raised:
        error = "; ".join(_messages(raised))[:300]
    # What differs between two streams by their addresses alone does not differ.
    return {"got": got, "error": error, "logged": [text.replace(url, "") for text in logged]}


async def main() -> None:
    """Read all that is asked for."""
    output, sys.stdout = sys.stdout, sys.stderr  # some SDKs print
    warnings.simplefilter("always")
    warnings.simplefilter("ignore", ResourceWarning)  # they come with a later reading
    warnings.showwarning = lambda message, *_: note(str(message))
    readers = importlib.import_module(f"real.clients.python.{sys.argv[1]}").READERS
    bound = float(next(iter(sys.argv[2:]), BOUND))
    asked = json.load(sys.stdin)
    logging.basicConfig(level=logging.WARNING, handlers=[_Notes()])
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(100))
    found = await asyncio.gather(*(reading(readers[name], url, bound) for name, url in asked))
    json.dump(found, output)
    output.flush()
    os._exit(0)  # a client that hangs in a thread of its own would keep the process


if __name__ == "__main__":
    asyncio.run(main())
