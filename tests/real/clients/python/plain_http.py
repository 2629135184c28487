"""HTTP clients that know nothing of events: what a program gets that reads the text itself."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests
from real.clients.protocols import application
from starlette.testclient import TestClient

EVENTS: Final = {"Accept": "text/event-stream"}


def curl(url: str, *options: str) -> Iterator[str]:
    command = [shutil.which("curl") or "curl", "-sSN", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    yield done.stdout


def curl_events(url: str) -> Iterator[str]:
    yield from curl(url, "-H", "Accept: text/event-stream")


def httpx_get(url: str) -> Iterator[str]:
    yield httpx.get(url, timeout=None).text


def httpx_get_events(url: str) -> Iterator[str]:
    yield httpx.get(url, timeout=None, headers=EVENTS).text


def httpx_post(url: str) -> Iterator[str]:
    yield httpx.post(url, timeout=None, json={}).text


def requests_get(url: str) -> Iterator[str]:
    yield requests.get(url, timeout=60).text


def requests_get_events(url: str) -> Iterator[str]:
    yield requests.get(url, timeout=60, headers=EVENTS).text


def requests_post(url: str) -> Iterator[str]:
    yield requests.post(url, timeout=60, json={}).text


async def aiohttp_get(url: str) -> AsyncIterator[str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        yield await response.text()


async def aiohttp_post(url: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as response:
        yield await response.text()


def test_client(url: str) -> Iterator[str]:
    """Read the same stream of the same app, over no connection."""
    yield TestClient(application).get(urlsplit(url).path).text


READERS: Final = {
    "test-client": test_client,
    "curl": curl,
    "curl-events": curl_events,
    "httpx-get": httpx_get,
    "httpx-get-events": httpx_get_events,
    "httpx-post": httpx_post,
    "requests-get": requests_get,
    "requests-get-events": requests_get_events,
    "requests-post": requests_post,
    "aiohttp-get": aiohttp_get,
    "aiohttp-post": aiohttp_post,
}
