"""Mistral's SDK for Python.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from mistralai.client import Mistral

HELLO: Final[Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def _client(url: str) -> Mistral:
    return Mistral(api_key="none", server_url=url)


def chat(url: str) -> Iterator[Any]:
    for event in _client(url).chat.stream(**HELLO):
        yield event.data.model_dump(mode="json")


async def chat_async(url: str) -> AsyncIterator[Any]:
    async for event in await _client(url).chat.stream_async(**HELLO):
        yield event.data.model_dump(mode="json")


READERS: Final = {"chat": chat, "chat-async": chat_async}
