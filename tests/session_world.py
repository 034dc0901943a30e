"""An exchange core and clients over a channel that loses, cuts and delays, in simulated time, without sockets."""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import numpy as np
import zmq
from gateway_market import CONFIG, MORNING

from engine import messages as m
from engine.calendar import TradingCalendar
from engine.exchange import Exchange
from gateway import config as cfg
from gateway import keys
from gateway.client import Client
from gateway.clock import SteppedClock
from gateway.connection import Target
from gateway.core import Core
from gateway.roles import ROLES
from gateway.scheduler import bootstrap
from gateway.zap import MEMBERS, OPERATORS

CALENDAR = TradingCalendar([20251202, 20251203, 20251204, 20251205, 20251208])
ROUND_NS = 1_000_000  # a frame takes at least so long


class MemoryJournal:
    """Groups in memory; what is committed survives a crash of the core."""

    took_ns = 0

    def __init__(self) -> None:
        self.groups: list[tuple[np.ndarray, bytes]] = []
        self.open: list[tuple[np.ndarray, bytes]] = []
        self.flying: list[tuple[np.ndarray, bytes]] = []  # their commit was begun: a crash may lose or keep them

    def append(self, commands: np.ndarray, payloads: bytes) -> None:
        self.open.append((commands.copy(), payloads))

    def commit(self) -> int:
        self.groups += self.open
        self.open = []
        return 0

    def begin(self) -> None:
        self.flying, self.open = self.open, []

    def wait(self) -> None:
        self.groups += self.flying
        self.flying = []


class Wire:
    """A client's socket: frames go through the world's channel."""

    def __init__(self, world: World, key: str, plane: str) -> None:
        self.world, self.key, self.plane = world, key, plane
        self.route = b"\x01" + os.urandom(15)
        self.inbox: list[tuple[int, bytes]] = []
        self.up = True
        self.room = 1 << 30  # frames that it holds unread
        world.wires[self.route] = self

    def send(self, frame: bytes, flags: int = 0) -> None:
        if not self.up:
            raise zmq.Again
        self.world.to_exchange(self, frame)

    def recv(self, flags: int = 0) -> bytes:
        if not self.inbox or self.inbox[0][0] > self.world.now_ns:
            raise zmq.Again
        return self.inbox.pop(0)[1]

    def poll(self, wait_ms: int = 0, flags: int = zmq.POLLIN) -> int:
        if flags == zmq.POLLOUT:
            return int(self.up)
        deadline = self.world.now_ns + wait_ms * 1_000_000
        while True:
            if self.inbox and self.inbox[0][0] <= self.world.now_ns:
                return 1
            if self.world.now_ns >= deadline:
                return 0
            self.world.advance(ROUND_NS)

    def close(self, linger: int | None = None) -> None:
        self.up = False
        self.world.wires.pop(self.route, None)


class World:
    """One exchange core, its journal, and the channel. ``faults`` sets the odds per frame."""

    def __init__(
        self, chance: random.Random, *, core_class: type[Core] = Core, snapshots: bool = False, overlap_from: int = 0
    ) -> None:
        self.chance, self.core_class, self.snapshots = chance, core_class, snapshots
        self.overlap_from = overlap_from
        self.now_ns = 1_000_000_000
        self.loss = self.cut = self.late = 0.0
        self.journal = MemoryJournal()
        self.wires: dict[bytes, Wire] = {}
        self.waiting: list[tuple[int, Wire, bytes]] = []
        config = msgspec.structs.replace(CONFIG, gateway=cfg.Gateway(curve=True))
        pairs = [(f"member-{i}", "trader", i) for i in range(1, 4)] + [("ops1", "operator", 0xFFFFFFFF)]
        entries = [
            keys.Key(name, f"{name:*<40}", session, role, account)
            for session, (name, role, account) in enumerate(pairs, 1)
        ]
        self.table = keys.KeyTable(entries)
        self.market = cfg.Market(__file__, config, config.make_rules(), CALENDAR)  # type: ignore[arg-type]
        self.epoch = 0
        self.down = False
        self.start()
        for account in range(1, 4):
            self.core.source(m.Deposit(account=account, amount=10**9, document=f"d{account}"))
            self.core.source(m.TransferIn(account=account, instrument="CEA24", quantity=10**6, transfer=f"t{account}"))
        self.core.flush()
        self.core.step_to(MORNING)

    def start(self) -> None:
        """A new core from the journal: the exchange's start is its recovery."""
        self.epoch += 1
        exchange = Exchange(self.market.rules, calendar=None)
        clock = SteppedClock(self.market.start_ns())
        core = self.core_class(self.market, exchange, self.journal, clock, self.table, self.send, epoch=self.epoch)
        for commands, payloads in self.journal.groups:
            core.apply(commands, payloads)
        clock.time_ns = max(exchange.time_ns, clock.time_ns, MORNING if self.epoch > 1 else 0)
        self.core = core
        core.overlap_from = self.overlap_from
        core.tick(self.now_ns)
        bootstrap(core)
        self.down = False

    def crash(self) -> None:
        """The process dies: what was not committed is gone, every connection too."""
        if self.chance.random() < 0.5:
            self.journal.wait()
        self.journal.open, self.journal.flying = [], []
        self.waiting = []
        self.down = True
        for wire in list(self.wires.values()):
            wire.inbox = []

    def send(self, plane: str, route: bytes, frame: bytes) -> bool:
        wire = self.wires.get(route)
        if wire is None or len(wire.inbox) >= wire.room:
            return False
        if self.chance.random() >= self.loss:
            late = self.chance.randrange(50) if self.chance.random() < self.late else 0
            at = max(self.now_ns + (1 + late) * ROUND_NS, wire.inbox[-1][0] if wire.inbox else 0)
            wire.inbox.append((at, bytes(frame)))
        return True

    def lose_first(self, part: bytes) -> list[bytes]:
        """The exchange's next frame with these bytes is lost as with a connection that breaks; it then stands here."""
        lost: list[bytes] = []
        send = self.core.send

        def lossy(plane: str, route: bytes, frame: bytes) -> bool:
            if part in frame and not lost:
                lost.append(frame)
                return True
            return send(plane, route, frame)

        self.core.send = lossy  # type: ignore[method-assign]
        return lost

    def to_exchange(self, wire: Wire, frame: bytes) -> None:
        if self.chance.random() < self.cut:
            wire.up = False  # the connection breaks; this frame and what follows is lost
            self.wires.pop(wire.route, None)
            return
        if self.chance.random() >= self.loss and not self.down:
            late = self.chance.randrange(50) if self.chance.random() < self.late else 0
            at = max(self.now_ns + (1 + late) * ROUND_NS, max((t for t, w, _ in self.waiting if w is wire), default=0))
            self.waiting.append((at, wire, bytes(frame)))

    def advance(self, ns: int) -> None:
        """Simulated time goes on: the exchange takes what has arrived."""
        self.now_ns += ns
        if self.down:
            return
        core = self.core
        core.mono_ns = self.now_ns
        due = [w for w in self.waiting if w[0] <= self.now_ns]
        self.waiting = [w for w in self.waiting if w[0] > self.now_ns]
        for _, wire, frame in due:
            core.receive(wire.plane, wire.route, wire.key, frame)
        if core.batch.count:
            core.advance()
        elif self.chance.random() < 0.5:  # the disk may take its time
            core.finish()
        core.pump()
        core.tick(self.now_ns)
        core.pump()

    def client(self, name: str, timeout: float = 60.0, **more: Any) -> Client:
        """A client of a key, with simulated socket and time."""
        key = next(k for k in self.table.keys if k.name == name)
        plane = OPERATORS if ROLES[key.role].operator_plane else MEMBERS
        secret = keys.Secret(name, key.public, "", "")

        def socket_for(target: Target) -> Wire:
            return Wire(self, key.public, plane)

        return Client(
            "tcp://simulated:1",
            key=secret,
            timeout=timeout,
            plane=plane,
            socket_for=socket_for,
            now=lambda: self.now_ns,
            pause=lambda seconds: self.advance(max(ROUND_NS, int(seconds * 1e9))),
            **more,
        )
