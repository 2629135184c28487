"""OpenAI's SDK for Python.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from openai import AsyncOpenAI, OpenAI
from real.clients.protocols import LIMIT

OPTIONS: Final[Any] = {"api_key": "none", "max_retries": 0, "timeout": 60}
SYNC: Final = OpenAI(**OPTIONS)
ASYNC: Final = AsyncOpenAI(**OPTIONS)
HELLO: Final[Any] = [{"role": "user", "content": "hello"}]


def _shown(item: Any) -> Any:
    return item.model_dump(mode="json", warnings=False)


def chat(url: str) -> Iterator[Any]:
    chat = SYNC.with_options(base_url=url).chat
    for chunk in chat.completions.create(model="m", messages=HELLO, stream=True):
        yield _shown(chunk)


async def chat_async(url: str) -> AsyncIterator[Any]:
    chat = ASYNC.with_options(base_url=url).chat
    async for chunk in await chat.completions.create(model="m", messages=HELLO, stream=True):
        yield _shown(chunk)


def chat_helper(url: str) -> Iterator[Any]:
    chat = SYNC.with_options(base_url=url).chat
    with chat.completions.stream(model="m", messages=HELLO) as events:
        for event in events:
            yield _shown(event)


def responses(url: str) -> Iterator[Any]:
    client = SYNC.with_options(base_url=url)
    for event in client.responses.create(model="m", input="hello", stream=True):
        yield _shown(event)


def responses_helper(url: str) -> Iterator[Any]:
    client = SYNC.with_options(base_url=url)
    with client.responses.stream(model="m", input="hello") as events:
        for event in events:
            yield _shown(event)


def timer(url: str) -> Iterator[Any]:
    chat = SYNC.with_options(base_url=url, timeout=LIMIT).chat
    for chunk in chat.completions.create(model="m", messages=HELLO, stream=True):
        yield _shown(chunk)


def chat_whole(url: str) -> Iterator[Any]:
    chat = SYNC.with_options(base_url=url).chat
    yield _shown(chat.completions.create(model="m", messages=HELLO))


def responses_whole(url: str) -> Iterator[Any]:
    client = SYNC.with_options(base_url=url)
    yield _shown(client.responses.create(model="m", input="hello"))


READERS: Final = {
    "chat": chat,
    "chat-async": chat_async,
    "chat-helper": chat_helper,
    "responses": responses,
    "responses-helper": responses_helper,
    "timer": timer,
    "chat-whole": chat_whole,
    "responses-whole": responses_whole,
}
