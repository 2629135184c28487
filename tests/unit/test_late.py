"""A late response: how much of it is kept for the report."""

import json

import pytest

from keepalive._late import MAX_SUMMARY_BODY, LateResponse


def test_no_more_is_buffered_than_can_be_reported():
    late = LateResponse("text/event-stream", [])
    assert [late.feed(b"x" * 5000) for _ in range(4)] == [False, False, False, True]
    assert late.feed(b"x" * 10**6)
    assert len(late._body) == MAX_SUMMARY_BODY + 1


@pytest.mark.parametrize(
    ("started_as", "at"), [("text/event-stream", "event"), ("application/json", "line")]
)
def test_a_farewell_comes_between_events_or_lines(started_as, at):
    late = LateResponse(started_as, [])
    assert (late.farewell.at, late.timeout_farewell.at) == (at, at)


@pytest.mark.parametrize(
    ("status", "compatible"), [(199, False), (200, True), (299, True), (300, False)]
)
def test_the_body_of_a_success_continues_the_stream(status, compatible):
    late = LateResponse("text/event-stream", [])
    headers = [(b"content-type", b"text/event-stream")]
    late.begin({"type": "http.response.start", "status": status, "headers": headers})
    assert late.compatible == compatible


def test_a_response_may_have_no_headers():
    late = LateResponse("application/json", [])
    late.begin({"type": "http.response.start", "status": 500})
    assert (late.compatible, late.status, late.dropped_headers) == (True, 500, ())


def test_the_body_after_an_invalid_start_is_reported():
    late = LateResponse("application/json", [])
    late.begin({"type": "http.response.start"})
    late.feed(b"oops")
    assert json.loads(late.summary)["body"] == "oops"
