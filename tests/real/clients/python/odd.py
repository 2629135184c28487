"""Readers that behave badly, each in its way, to see what is reported of them."""

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Final


async def warns(url: str) -> AsyncIterator[str]:
    yield "one"
    await asyncio.sleep(0.05)  # the others are read meanwhile
    logging.getLogger("odd").warning("of %s/warns", url)
    warnings.warn("a warning", stacklevel=1)
    logging.getLogger("odd").info("no warning")


def warns_in_a_thread(url: str) -> Iterator[str]:
    yield "one"
    logging.getLogger("odd").error("from a thread")


async def raises(url: str) -> AsyncIterator[str]:
    yield "one"
    raise ExceptionGroup("of", [LookupError("on purpose"), KeyError("as well")])


async def hangs(url: str) -> AsyncIterator[str]:
    yield "one"
    await asyncio.Event().wait()


def hangs_in_a_thread(url: str) -> Iterator[str]:
    yield "one"
    threading.Event().wait()


READERS: Final = {
    "warns": warns,
    "warns-in-a-thread": warns_in_a_thread,
    "raises": raises,
    "hangs": hangs,
    "hangs-in-a-thread": hangs_in_a_thread,
}
