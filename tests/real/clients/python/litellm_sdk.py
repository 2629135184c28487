"""LiteLLM's client, with the routes to each protocol.

Each reader returns what a user's code would get.
"""

import os
import warnings
from collections.abc import Iterator
from typing import Any, Final

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks a server for prices

import litellm

# Its own types, when pydantic first looks at them in a call.
warnings.filterwarnings("ignore", message=".*TypedDict class.*`ReadOnly` qualifier")

HELLO: Final[Any] = {"messages": [{"role": "user", "content": "hello"}], "stream": True}


def _read(model: str, url: str) -> Iterator[Any]:
    for chunk in litellm.completion(model, **HELLO, api_base=url, api_key="none"):
        (choice,) = chunk.choices
        yield [choice.delta.content, choice.finish_reason]


READERS: Final = {
    "openai": lambda url: _read("openai/m", url),
    "anthropic": lambda url: _read("anthropic/m", url),
    "gemini": lambda url: _read("gemini/m", url),
}
