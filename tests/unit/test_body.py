"""Whether a request's body asks for an event stream: the rule, on chunks of bytes."""

import json

import pytest

from keepalive._body import COLLECTING, COMPLETE, MAX_EXAMINED_BODY, RELEASED, RequestBody


def asks(*chunks, size=None, complete=True):
    """Whether a body in these chunks, of this announced size, asks for an event stream."""
    collected = RequestBody()
    for number, chunk in enumerate(chunks, 1):
        last = complete and number == len(chunks)
        collected.feed({"type": "http.request", "body": chunk, "more_body": not last})
    return collected.asks_for_stream(size)


def padded(size):
    """Return a body of that size that asks for an event stream."""
    start, end = b'{"stream": true, "prompt": "', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


NESTED = b'{"stream": true, "x": %s}' % (b"[" * 100_000)
TABLE = {
    b'{"stream": true}': True,
    b'{"model": "m", "stream":true, "messages": []}\n ': True,
    b'{"stream": false, "stream": true}': True,  # the last one, as for most parsers
    b'{"str\\u0065am": true}': True,
    '{"stream": true, "prompt": "caf\xe9 \u20ac"}'.encode(): True,
    b'{"stream": true, "stream": false}': False,
    b'{"stream": false}': False,
    b'{"stream": 1}': False,
    b'{"stream": 1.0}': False,
    b'{"stream": "true"}': False,
    b'{"stream": null}': False,
    b'{"stream": {"stream": true}}': False,
    b'{"options": {"stream": true}}': False,
    b'{"Stream": true}': False,
    b'{"prompt": "\\"stream\\": true"}': False,
    b"{}": False,
    b"": False,
    b'[{"stream": true}]': False,
    b' {"stream": true}': False,
    b'\n{"stream": true}': False,
    b'\xef\xbb\xbf{"stream": true}': False,
    '{"stream": true}'.encode("utf-16"): False,
    '{"stream": true}'.encode("utf-16-le"): False,
    '{"stream": true, "prompt": "caf\xe9"}'.encode("latin-1"): False,
    b'{"stream": true, "prompt": "\xed\xa0\x80"}': False,  # a surrogate
    b'{"stream": true': False,
    b'{"stream": true} {}': False,
    b'{"stream": true,}': False,
    b'{"stream": true, "n": %s}' % (b"9" * 10_000): False,  # longer than Python's integers
    b"{'stream': True}": False,
    b"stream=true": False,
    NESTED: False,
}


@pytest.mark.parametrize(("body", "expected"), TABLE.items(), ids=[x[:30] for x in TABLE])
def test_a_body_asks_for_an_event_stream_or_does_not(body, expected):
    assert asks(body) is expected
    assert asks(body, b"") is expected
    assert asks(*(body[at : at + 1] for at in range(min(len(body), 200))), body[200:]) is (
        expected
    )


def test_what_follows_the_stream_must_be_valid_too():
    assert asks(b"{" + b'"a": [' * 5 + b"]" * 5) is False


@pytest.mark.parametrize("parts", [1, 2, 1000])
def test_a_body_of_256_kib_is_examined_and_one_byte_more_is_not(parts):
    assert MAX_EXAMINED_BODY == 256 * 1024
    for size, expected in ((MAX_EXAMINED_BODY, True), (MAX_EXAMINED_BODY + 1, False)):
        body = padded(size)
        assert len(body) == size
        assert json.loads(body)["stream"] is True
        step = -(-size // parts)
        assert asks(*(body[at : at + step] for at in range(0, size, step))) is expected


def test_a_body_is_complete_with_its_last_chunk_or_its_announced_size():
    body = b'{"stream": true}'
    assert asks(body, complete=False) is False
    assert asks(body, complete=False, size=len(body)) is True
    assert asks(body, complete=False, size=len(body) + 1) is False
    assert asks(body[:5], body[5:], complete=False, size=len(body)) is True


@pytest.mark.parametrize("chunk", [None, 7, "text", memoryview(b'{"stream": true}')])
def test_what_is_not_bytes_is_not_examined(chunk):
    assert asks(chunk) is False


def test_a_bytearray_counts():
    assert asks(bytearray(b'{"stream": true}')) is True


def test_other_messages_do_not_count():
    collected = RequestBody()
    collected.feed({"type": "http.request", "body": b'{"stream": ', "more_body": True})
    collected.feed({"type": "http.disconnect"})
    assert collected.state == COLLECTING
    collected.feed({"type": "http.request", "body": b"true}"})
    assert collected.state == COMPLETE
    assert collected.asks_for_stream(None) is True


def test_chunks_are_kept_by_reference_until_they_are_examined_or_exceed_the_limit():
    chunk = b"x" * 1000
    message = {"type": "http.request", "body": chunk, "more_body": True}
    collected = RequestBody()
    for _ in range(MAX_EXAMINED_BODY // 1000):
        collected.feed(message)
    assert {id(kept) for kept in collected.chunks} == {id(chunk)}
    assert collected.asks_for_stream(None) is False
    assert collected.state == COLLECTING
    collected.feed(message)
    assert (collected.state, collected.chunks) == (RELEASED, [])
    collected = RequestBody()
    collected.feed({"type": "http.request", "body": b'{"stream": true}'})
    assert collected.asks_for_stream(None) is True
    assert (collected.state, collected.chunks) == (RELEASED, [])
    assert collected.asks_for_stream(None) is False
