"""Ends under uvicorn: the client goes, the owner stops, the stream completes."""

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from real.http_clients import PING, exchange, split_pings, token
from real.servers.uvicorn_apps import SILENT

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_a_whole_stream_is_reported_once_with_its_numbers(server):
    path = f"/silent/{token()}"
    with exchange(server, f"/kept{path}") as made:
        body = made.read()
    end = server.end_of(path)
    pings = split_pings(body)[1]
    assert (end["reason"], end["pings"], end["bytes_sent"]) == ("completed", pings, len(body))
    kinds = [fact["kind"] for fact in server.facts(path)]
    assert kinds == ["StreamStarted", *["PingSent"] * pings, "StreamEnded"]


def test_the_plain_app_is_reported_nowhere(server):
    path = f"/silent/{token()}"
    with exchange(server, f"/plain{path}") as made:
        assert made.read() == b"".join(SILENT)
    assert server.facts(path) == []


UPLOADS = [None, b"", b"a body that the app never reads"]


def of_each_upload(serve):
    """Do something for a GET, a POST with no body and one with a body, at the same time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(serve, UPLOADS))


@contextmanager
def non_listening_exchange(server, path, upload):
    size = None if upload is None else len(upload)
    with exchange(server, f"/kept{path}", upload=size) as made:
        if upload:
            made.write(upload)
        yield made


def test_a_disconnect_is_noticed_though_the_app_never_calls_receive(server):
    def leave(upload):
        path = f"/non_listening/patient/{token()}"
        with non_listening_exchange(server, path, upload) as made:
            made.read_until(b"data: hello\n\n")
            made.read_until(PING)
        return server.end_of(path)["reason"]

    assert of_each_upload(leave) == ["disconnected"] * 3


def test_an_app_that_never_calls_receive_completes_if_the_client_stays(server):
    def stay(upload):
        path = f"/non_listening/brief/{token()}"
        with non_listening_exchange(server, path, upload) as made:
            rest, pings = split_pings(made.read())
        assert rest == b"data: hello\n\ndata: goodbye\n\n"
        assert pings >= 2
        return server.end_of(path)["reason"]

    assert of_each_upload(stay) == ["completed"] * 3


def test_a_disconnect_is_noticed_under_fastapi(server):
    path = f"/silent/{token()}"
    with exchange(server, f"/kept{path}") as made:
        made.read_until(SILENT[0] + PING)
    assert server.end_of(path)["reason"] == "disconnected"


def test_a_signal_ends_the_pings_and_not_the_stream(server):
    # A stream that is not stopped has pings in the same silence.
    path = f"/owned/going/{token()}"
    with exchange(server, f"/owned{path}") as made:
        _, _, silence = made.read().partition(b"data: before\n\n")
    assert silence.startswith(PING * 2)
    assert silence.endswith(b"data: after\n\n")
    assert server.end_of(path)["reason"] == "completed"

    path = f"/owned/stopped/{token()}"
    with exchange(server, f"/owned{path}") as made:
        assert made.read_until(b"data: before\n\n").startswith(PING * 2)
        server.process.send_signal(signal.SIGUSR1)
        _, found, silence = made.read().partition(b"data: shutdown\n\n")
    assert found
    assert silence == b"data: after\n\n"
    assert server.end_of(path)["reason"] == "shutdown"

    # A stream that opens afterwards is stopped as it starts.
    path = f"/owned/late/{token()}"
    with exchange(server, f"/owned{path}") as made:
        assert made.read() == b"data: after\n\n"
    assert server.end_of(path)["reason"] == "shutdown"

    # The other middleware of the same process has another owner.
    path = f"/non_listening/brief/{token()}"
    with exchange(server, f"/kept{path}") as made:
        assert split_pings(made.read())[1] >= 2
