"""Listening sockets take only so many connections, and forget those that are over."""

from __future__ import annotations

import socket
import time

import pytest

from peer import ports
from peer.ports import Listener


@pytest.fixture
def listening():
    made = []

    def listen(**room) -> Listener:
        made.append(Listener("127.0.0.1", 0, **room))
        made[0].settimeout(10)
        return made[0]

    yield listen
    for each in made:
        each.close()


def call(listener: Listener) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=10)


def test_beyond_the_most_a_connection_is_closed_at_once(listening):
    listener = listening(most=2)
    callers = [call(listener) for _ in range(3)]
    taken = [listener.accept()[0] for _ in range(2)]
    with pytest.raises(ConnectionAbortedError):
        listener.accept()
    assert callers[2].recv(1) == b"", "the third is left waiting"
    taken[0].close()
    late = call(listener)
    taken[0] = listener.accept()[0]
    for each in [*callers, *taken, late]:
        each.close()


def test_no_address_takes_the_room_of_all(listening):
    listener = listening(most=10, most_each=1)
    with call(listener), call(listener):
        kept = listener.accept()[0]
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        kept.close()


def test_when_it_is_full_the_old_make_room(listening, monkeypatch):
    listener = listening(most=1, oldest_s=20)
    with call(listener) as old, call(listener) as early, call(listener) as late:
        first = listener.accept()[0]
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        assert early.recv(1) == b""
        then = time.monotonic() + 21
        monkeypatch.setattr(ports.time, "monotonic", lambda: then)
        second = listener.accept()[0]
        assert old.recv(1) == b"", "the old one is not told"
        second.sendall(b"x")
        assert late.recv(1) == b"x"
        first.close()
        second.close()


def test_a_port_that_is_taken_raises_what_the_system_says(listening):
    listener = listening(most=1)
    with pytest.raises(OSError, match="in use"):
        Listener("127.0.0.1", listener.getsockname()[1], most=1)
