"""The events that each protocol's stream has."""

import json
from collections.abc import Mapping
from typing import Final


def data(value: object, event: str | None = None) -> bytes:
    """Return an event whose data is JSON."""
    head = "" if event is None else f"event: {event}\n"
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def named(*values: dict[str, object]) -> tuple[bytes, ...]:
    """Return events that are named by their types."""
    return tuple(data(value, str(value["type"])) for value in values)


def _chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return data({**head, "choices": [choice]})


def _response(status: str, output: list[object]) -> dict[str, object]:
    return {
        "id": "r1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": output,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "output_tokens": 2,
            "total_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _responses() -> tuple[bytes, ...]:
    part = {"type": "output_text", "text": "Hello, world", "annotations": []}
    item = {"id": "i1", "type": "message", "role": "assistant"}
    whole = {**item, "status": "completed", "content": [part]}
    place = {"item_id": "i1", "output_index": 0, "content_index": 0}
    steps: list[dict[str, object]] = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": "Hello", "logprobs": []},
        {"type": "response.output_text.delta", **place, "delta": ", world", "logprobs": []},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": _response("completed", [whole])},
    ]
    return named(*({**step, "sequence_number": n} for n, step in enumerate(steps)))


def _anthropic() -> tuple[bytes, ...]:
    message = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    text = {"type": "text", "text": ""}
    deltas = ({"type": "text_delta", "text": part} for part in ("Hello", ", world"))
    return named(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": text},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    )


def _gemini(text: str, **more: str) -> bytes:
    content = {"role": "model", "parts": [{"text": text}]}
    candidate = {"content": content, "index": 0, **more}
    return data({"candidates": [candidate], "modelVersion": "m"})


DONE: Final = b"data: [DONE]\n\n"

EVENTS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "sse": (
        b"id: 1\ndata: one\n\n",
        b"event: update\nid: 2\ndata: two\ndata: lines\n\n",
        b"id: 3\ndata: three\n\n",
    ),
    "chat": (
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"content": "Hello"}),
        _chunk({"content": ", world"}),
        _chunk({}, "stop"),
        DONE,
    ),
    "responses": _responses(),
    "anthropic": _anthropic(),
    "ui": (
        data({"type": "start", "messageId": "m1"}),
        data({"type": "text-start", "id": "t1"}),
        data({"type": "text-delta", "id": "t1", "delta": "Hello"}),
        data({"type": "text-delta", "id": "t1", "delta": ", world"}),
        data({"type": "text-end", "id": "t1"}),
        data({"type": "finish"}),
        DONE,
    ),
    "gemini": (_gemini("Hello"), _gemini(", world", finishReason="STOP")),
    "langgraph": (
        data({"run_id": "r1", "attempt": 1}, "metadata"),
        data({"messages": ["Hello"]}, "values"),
        data({"messages": ["Hello", ", world"]}, "values"),
    ),
    "records": (b'{"n": 1}\n', b'{"text": "two words"}\n', b'{"n": 3}\n'),
    "records-first": (b'{"n": 1}\n', b'{"text": "two words"}\n', b'{"n": 3}\n'),
}
"""By protocol. `records-first` ends with its last record, all others with a silence."""

_USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
_MESSAGE: Final = {"role": "assistant", "content": "Hello, world"}
_GOOGLE_WHOLE: Final = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello, world"}]}}],
}
_ANTHROPIC_WHOLE: Final = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello, world"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
WHOLE: Final[Mapping[str, object]] = {
    "chat-whole": {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        "usage": _USAGE,
    },
    "responses-whole": _response("completed", []),
    "anthropic-whole": _ANTHROPIC_WHOLE,
    "google-whole": _GOOGLE_WHOLE,
}
"""What is answered where no stream is asked for, by protocol."""
