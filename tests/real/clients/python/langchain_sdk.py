"""LangChain's models for the protocols of OpenAI and of Anthropic.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

OPTIONS: Final[Any] = {"model": "m", "api_key": "none", "max_retries": 0}


def _shown(chunk: Any) -> Any:
    return [chunk.content, chunk.response_metadata.get("finish_reason")]


def openai(url: str) -> Iterator[Any]:
    for chunk in ChatOpenAI(**OPTIONS, base_url=url).stream("hello"):
        yield _shown(chunk)


async def openai_async(url: str) -> AsyncIterator[Any]:
    async for chunk in ChatOpenAI(**OPTIONS, base_url=url).astream("hello"):
        yield _shown(chunk)


def openai_responses(url: str) -> Iterator[Any]:
    model = ChatOpenAI(**OPTIONS, base_url=url, use_responses_api=True)
    for chunk in model.stream("hello"):
        yield _shown(chunk)


def anthropic(url: str) -> Iterator[Any]:
    for chunk in ChatAnthropic(**OPTIONS, base_url=url).stream("hello"):
        yield _shown(chunk)


READERS: Final = {
    "openai": openai,
    "openai-async": openai_async,
    "openai-responses": openai_responses,
    "anthropic": anthropic,
}
