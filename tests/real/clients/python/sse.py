"""Python's SSE libraries, and what people write by hand instead of one.

Each reader returns what a user's code would get.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, Final

import aiohttp
import httpx
import httpx_sse
from aiohttp_sse_client2.client import EventSource
from aiosseclient import aiosseclient
from real.clients.protocols import LIMIT

Event = tuple[str, str, str]


def httpx_sse_sync(url: str) -> Iterator[Event]:
    with (
        httpx.Client(timeout=None, verify=False) as client,
        httpx_sse.connect_sse(client, "GET", url) as source,
    ):
        for event in source.iter_sse():
            yield event.event, event.data, event.id


async def httpx_sse_async(url: str) -> AsyncIterator[Event]:
    async with (
        httpx.AsyncClient(timeout=None, verify=False) as client,
        httpx_sse.aconnect_sse(client, "GET", url) as source,
    ):
        async for event in source.aiter_sse():
            yield event.event, event.data, event.id


async def aiohttp_sse_client2(url: str) -> AsyncIterator[Event]:
    soon = timedelta(milliseconds=1)  # until it connects again, and is refused
    async with EventSource(url, reconnection_time=soon) as source:
        with contextlib.suppress(ConnectionError):  # as its documentation has it
            async for event in source:
                yield event.type, event.data, event.last_event_id


async def aio_sse_client(url: str) -> AsyncIterator[Event]:
    async for event in aiosseclient(url):
        yield event.event, event.data, event.id


async def lines_checked(url: str) -> AsyncIterator[Any]:
    """As people read OpenAI's protocol: the lines that begin with `data: `."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        async for raw in response.content:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line.removeprefix("data: "))


async def lines_unchecked(url: str) -> AsyncIterator[Any]:
    """As people read it who expect nothing but data: all lines that aren't empty."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        async for raw in response.content:
            line = raw.decode().strip()
            if line and line != "data: [DONE]":
                yield json.loads(line.removeprefix("data: "))


async def split(url: str) -> AsyncIterator[Any]:
    """As people read it in chunks: split on a blank line, look at the first characters."""
    buffer = ""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        async for chunk in response.content.iter_any():
            buffer += chunk.decode()
            *events, buffer = buffer.split("\n\n")
            for event in events:
                if event.startswith("data: ") and event != "data: [DONE]":
                    yield json.loads(event.removeprefix("data: "))


def httpx_timer(url: str) -> Iterator[str]:
    with httpx.stream("GET", url, timeout=LIMIT, verify=False) as response:
        for line in response.iter_lines():
            if line.startswith("data"):
                yield line


async def aiohttp_timer(url: str) -> AsyncIterator[str]:
    timeout = aiohttp.ClientTimeout(sock_read=LIMIT)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
        async for raw in response.content:
            if raw.startswith(b"data"):
                yield raw.decode()


def httpx_records(url: str) -> Iterator[Any]:
    with httpx.stream("GET", url, timeout=None, verify=False) as response:
        for line in response.iter_lines():
            yield json.loads(line)


def httpx_records_checked(url: str) -> Iterator[Any]:
    with httpx.stream("GET", url, timeout=None, verify=False) as response:
        for line in response.iter_lines():
            if line:
                yield json.loads(line)


async def aiohttp_records(url: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        async for line in response.content:
            yield json.loads(line)


READERS: Final = {
    "httpx-sse": httpx_sse_sync,
    "httpx-sse-async": httpx_sse_async,
    "aiohttp-sse-client2": aiohttp_sse_client2,
    "aiosseclient": aio_sse_client,
    "lines-checked": lines_checked,
    "lines-unchecked": lines_unchecked,
    "split": split,
    "httpx-timer": httpx_timer,
    "aiohttp-timer": aiohttp_timer,
    "httpx-records": httpx_records,
    "httpx-records-checked": httpx_records_checked,
    "aiohttp-records": aiohttp_records,
}
