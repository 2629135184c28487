"""Google's Gen AI SDK for Python.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from google import genai

HELLO: Final[Any] = {"model": "m", "contents": "hello"}


def _client(url: str) -> genai.Client:
    return genai.Client(api_key="none", http_options={"base_url": url})


def stream(url: str) -> Iterator[Any]:
    client = _client(url)  # closes its connections when it is collected
    for chunk in client.models.generate_content_stream(**HELLO):
        yield chunk.text


async def stream_async(url: str) -> AsyncIterator[Any]:
    client = _client(url)
    async for chunk in await client.aio.models.generate_content_stream(**HELLO):
        yield chunk.text


def whole(url: str) -> Iterator[Any]:
    client = _client(url)
    yield client.models.generate_content(**HELLO).text


READERS: Final = {"stream": stream, "stream-async": stream_async, "whole": whole}
