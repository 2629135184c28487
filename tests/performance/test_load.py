"""The client of the benchmark counts every event and ping, wherever the network cuts them."""

import socket

import load
import pytest

EVENT = b"data: " + load.EVENT + b"\n\n"


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 39, 40, 41, 1000])
def test_an_event_that_is_cut_is_counted_once(size):
    data = b"HTTP/1.1 200 OK\r\n\r\n" + 5 * EVENT + load.LAST_CHUNK
    assert load.count_events(pieces(data, size)) == 5


def test_nothing_is_read_after_the_last_chunk():
    arriving = iter([EVENT, load.LAST_CHUNK, EVENT])
    assert load.count_events(arriving) == 1
    assert list(arriving) == [EVENT]


@pytest.mark.parametrize("size", [1, 3, 4, 1000])
def test_a_ping_that_is_cut_is_counted_once(size):
    crowd = load.Crowd(0)
    crowd.waiting[3] = b""
    with crowd.epoll:
        for piece in pieces(EVENT + 3 * b"event: ping\ndata: \n\n", size):
            crowd.take(3, piece)
    assert crowd.pings == 3
    assert crowd.waiting == {}


def test_what_arrives_is_read_to_the_end_of_the_connection():
    server, client = socket.socketpair()
    with client, server:
        server.sendall(2 * EVENT)
        server.shutdown(socket.SHUT_WR)
        assert load.count_events(load.arriving(client)) == 2
