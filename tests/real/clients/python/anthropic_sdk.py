"""Anthropic's SDK for Python.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from anthropic import Anthropic, AsyncAnthropic
from real.clients.protocols import LIMIT

OPTIONS: Final[Any] = {"api_key": "none", "max_retries": 0, "timeout": 60}
SYNC: Final = Anthropic(**OPTIONS)
ASYNC: Final = AsyncAnthropic(**OPTIONS)
HELLO: Final[Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hello"}],
}


def _shown(item: Any) -> Any:
    return item.model_dump(mode="json", warnings=False)


def messages(url: str) -> Iterator[Any]:
    client = SYNC.with_options(base_url=url)
    for event in client.messages.create(**HELLO, stream=True):
        yield _shown(event)


async def messages_async(url: str) -> AsyncIterator[Any]:
    client = ASYNC.with_options(base_url=url)
    async for event in await client.messages.create(**HELLO, stream=True):
        yield _shown(event)


def helper(url: str) -> Iterator[Any]:
    client = SYNC.with_options(base_url=url)
    with client.messages.stream(**HELLO) as events:
        for event in events:
            yield _shown(event)
        yield events.get_final_text()


def timer(url: str) -> Iterator[Any]:
    client = SYNC.with_options(base_url=url, timeout=LIMIT)
    for event in client.messages.create(**HELLO, stream=True):
        yield _shown(event)


def whole(url: str) -> Iterator[Any]:
    yield _shown(SYNC.with_options(base_url=url).messages.create(**HELLO))


READERS: Final = {
    "messages": messages,
    "messages-async": messages_async,
    "helper": helper,
    "timer": timer,
    "whole": whole,
}
