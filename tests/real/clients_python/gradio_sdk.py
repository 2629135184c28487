"""Gradio's client for Python.

Each reader returns what a user's code would get.
"""

from collections.abc import Iterator
from typing import Any, Final

from gradio_client import Client


def predict(url: str) -> Iterator[Any]:
    client = Client(url, verbose=False, analytics_enabled=False)
    job = client.submit("hello", api_name="/count")
    yield from job
    client.close()


READERS: Final = {"predict": predict}
