"""The ZAP handler (ZeroMQ RFC 27): which CURVE key may connect to which plane.

Without a handler libzmq lets any key in, so the planes set a ZAP domain *and* ``ZAP_ENFORCE_DOMAIN``: a
handler that is gone refuses everybody. ``User-Id`` of an accepted connection is its public key; libzmq
attaches it to each of the connection's messages, and the exchange checks it on each.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils import z85

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
MEMBERS: Final = "members"
OPERATORS: Final = "operators"
FEED: Final = "feed"
OPERATOR_FEED: Final = "operator-feed"

log = logging.getLogger(__name__)


class ZapThread:
    """Answers ZAP requests of one context in a thread of its own.

    ``allowed(domain, public_z85) -> bool`` is asked for every connection; it must be quick and never raise.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: Callable[[str, str], bool]) -> None:
        self.allowed = allowed
        self.refused = 0
        self.accepted = 0
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ZAP_ENDPOINT)
        self._stop = context.socket(zmq.PAIR)
        self._stop_end = context.socket(zmq.PAIR)
        name = f"inproc://zap-stop-{id(self)}"
        self._stop.bind(name)
        self._stop_end.connect(name)
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)

    def start(self) -> None:
        """Starts answering; call before any plane is bound."""
        self._thread.start()

    def alive(self) -> bool:
        """False when the thread has died: the exchange stops then."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the thread and closes its sockets."""
        if self._thread.is_alive():
            self._stop_end.send(b"")
            self._thread.join()
        for socket in (self._socket, self._stop, self._stop_end):
            socket.close(0)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._stop in ready:
                return
            if self._socket in ready:
                self._socket.send_multipart(self.answer(self._socket.recv_multipart()))

    def answer(self, request: list[bytes]) -> list[bytes]:
        """The reply to one request; refuses whatever it does not understand."""
        request_id = request[1] if len(request) > 1 else b""
        user = ""
        if len(request) == 7 and request[0] == b"1.0" and request[5] == b"CURVE" and len(request[6]) == 32:
            public = z85.encode(request[6]).decode()
            if self.allowed(request[2].decode("ascii", "replace"), public):
                user = public
        if user:
            self.accepted += 1
            return [b"1.0", request_id, b"200", b"OK", user.encode(), b""]
        self.refused += 1
        return [b"1.0", request_id, b"400", b"refused", b"", b""]
