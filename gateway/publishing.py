"""Sending to the subscribers of a feed, and knowing when one of them loses a message."""

from __future__ import annotations

from typing import Any

import zmq


def publish(socket: zmq.Socket[Any], parts: tuple[bytes, bytes]) -> bool:
    """Sends to all subscribers of an XPUB socket with XPUB_NODROP; True where a subscriber's queue ran full by it.

    A full queue is told to us before anything is dropped. Then libzmq is made to look at what readers have taken
    meanwhile (it does so once a millisecond by itself, so that a reader in time would lose messages of a burst). Whose
    queue is still full loses this message and those behind it until it reads again; nobody else does.
    """
    try:
        socket.send_multipart(parts, zmq.DONTWAIT)
        return False
    except zmq.Again:
        socket.get(zmq.EVENTS)  # takes what other threads have told
    try:
        socket.send_multipart(parts, zmq.DONTWAIT)
        return False
    except zmq.Again:
        socket.set(zmq.XPUB_NODROP, 0)
        socket.send_multipart(parts, zmq.DONTWAIT)
        socket.set(zmq.XPUB_NODROP, 1)
        return True
