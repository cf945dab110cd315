from __future__ import annotations

import os

import pytest

from worker import channel


def test_messages_arrive_whole_and_in_order_whatever_their_size() -> None:
    ours, theirs = channel.pair()
    other = channel.Channel(theirs)
    big = {"samples": list(range(20_000))}

    ours.send({"first": 1})
    ours.send(big)

    assert other.receive() == {"first": 1}
    assert other.receive() == big


def test_silence_gives_none_after_the_timeout() -> None:
    ours, theirs = channel.pair()

    with theirs:
        assert ours.receive(timeout=0.01) is None


def test_a_closed_end_is_told_at_once() -> None:
    ours, theirs = channel.pair()
    theirs.close()

    with pytest.raises(channel.Closed):
        ours.receive()
    with pytest.raises(channel.Closed):
        ours.send({"op": "exit"})


def test_descriptors_ride_along_with_a_message() -> None:
    ours, theirs = channel.pair()
    other = channel.Channel(theirs)
    reader, writer = os.pipe()

    ours.send({"op": "fork"}, [writer])
    os.close(writer)
    other.receive()
    (received,) = other.take_descriptors()
    os.write(received, b"hello")
    os.close(received)

    assert os.read(reader, 10) == b"hello"
    assert other.take_descriptors() == []
    os.close(reader)
