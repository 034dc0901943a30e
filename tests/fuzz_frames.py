"""The grammar of nasty frames: good ones, and what a mutator makes of them.

A :class:`Frame` is not bytes yet: its tokens and request numbers are relative to whoever sends it, so that a frame
that once reached far into the exchange reaches as far again, from another session, a thousand frames later.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine import messages
from engine.records import MESSAGE
from gateway import protocol as p

RECORD = struct.Struct("<QqqqQQIIHHBBBB")
SEQ, TIME, PRICE, QUANTITY, ORDER, TOKEN, REQUEST, ACCOUNT, SESSION, INSTRUMENT, KIND, SIDE, TYPE, FLAGS = range(14)
BITS = (64, 64, 64, 64, 64, 64, 32, 32, 16, 16, 8, 8, 8, 8)
SIGNED = (TIME, PRICE, QUANTITY)
EDGES = (0, 1, 2, 5, 7, 8, 9, 31, 32, 63, 64, 255, 256, 65_535, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (None, True, -1, 0, 1, 2, 100_000, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, 1e308)
TEXTS = ("", "\0", "x", "CEA24", "CEA24\n", "ops2", "quick", "碳" * 20, "x" * 300, "x" * 5_000, b"", b"\xff" * 9)
NESTS = ([], {}, [1, [2, [3]]], {"t": "login"}, {"first": 2**63}, [0] * 600, {"a": {"b": {"c": None}}})
NASTY = (*NUMBERS, *TEXTS, *NESTS)
DEEP = b"\x91" * 1_200 + b"\xc0"  # deeper than a decoder that recurses can go
# What queries take, beside what may be anything.
QUERIES = ("open_orders", "balances", "desk", "auctions", "time", "snapshot", "instruments", "deals", "book", "status",
           "sessions", "state_hash", "all_balances", "accounts", "__class__", "")  # fmt: skip
CONTROLS = {c.__struct_config__.tag: c for c in p.CLIENT_MESSAGES}
COMMANDS = {c.__struct_config__.tag: c for c in messages.COMMANDS}
MEMBERS_OWN = tuple(t for t in COMMANDS if t.startswith(("bulk_", "auction_")) or t in ("withdraw", "transfer_out"))
# Messages that end a fuzzed day or world at once are rare, so that the others meet an open market.
RARE = frozenset(
    {
        "roll_day",
        "close_day",
        "settle_day",
        "step_clock",
        "halt",
        "retire_instrument",
        "revoke_session",
        "logout",
        "kill",
        "account_status",
    }
)

PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "account": (1, 2, 3, 1, 2, 3, 4, 77, 4_095, 4_096),
    "seller": (None, 1, 2),
    "side": (0, 1),
    "instrument": ("CEA23", "CEA24", "CEA24", "CEA99"),
    "code": ("CEA23", "CEA24", "CEA24", "CEA99"),
    "price": (5_991, 5_700, 5_392, 6_590, 4_194, 7_788, 1),
    "quantity": (1, 50, 99_999, 100_000, 100_000, 120_000, 200_000),
    "amount": (1, 1_000, 10**6, 10**12),
    "partial": (False, True),
    "to": ((), (1,), (2, 3), (1, 2, 3, 4)),
    "group": (0, 0, 1),
    "note": ("", "terms"),
    "valid_until": (0, 0, 1, 1_764_741_600_000_000_000),
    "declaration": tuple(range(9)),
    "thread": tuple(range(9)),
    "auction": tuple(range(4)),
    "bid": tuple(range(6)),
    "document": tuple(f"d{i}" for i in range(20)),
    "transfer": tuple(f"t{i}" for i in range(20)),
    "date": (20251203, 20251204, 20251205, 20251217, 20990101),
    "mode": ("uniform", "pay_as_bid"),
    "reserve": ("previous_close", "minus_10"),
    "second": ("", "", "ops2", "ops1", "nobody"),
    "status": (1, 2, 3),
    "session": (0, 1, 2, 3, 4, 65_535),
    "key": ("k" * 40, "k"),
    "role": ("trader", "risk"),
    "name": ("somebody",),
    "on": (True, False),
    "reason": (8, 9, 10),
    "number": (1, 2, 3, 9),
    "digest": ("", "0" * 64),
    "lines": (0, 1),
    "version": (1, 1, 1, 1, 1, 0, 2),
    "resume": ("quick", "quick", "quick", "quick", "resume", "restart", "again"),
    "last_report": (0, 0, 1, 50, 2**40),
    "heartbeat_ms": (100, 5_000, 60_000),
    "cancel_on_disconnect_ms": (-1, -1, 0, 50),
    "attempt": (0, 1, 2),
    "instance": (0, 0, 7),
    "first": (0, 1, 2, 40, 2**40),
    "last": (0, 1, 3, 60, 2**40),
    "shared": (False, True),
    "within_ms": (-1, 0, 20, 86_400_000),
    "id": (1, 2**62),
    "what": QUERIES,
    "proposal": (1, 2, 3),
    "time_ns": (0, 1, 1_764_727_200_000_000_000, 2**62),
    "args": ({}, {}, {"first": 1}, {"first": 2**40}, {"code": "CEA24"}, {"code": "CEA24", "full": True},
             {"code": "CEA24", "levels": 3}, {"account": 1}, {"account": 2**40}, {"date": 20251203}, {"auction": 1},
             {"code": []}, {"first": "x"}, {"account": -1}, {"levels": 1.5, "code": "CEA23"}),
}  # fmt: skip


@dataclass
class Frame:
    """One frame to be. ``rows``: records, their token as a difference to the sender's own and their request_no to the
    next one; ``body``: a slow-lane payload or a control message, as a map or as bytes; ``edits``: bytes changed at the
    end (place, value); ``cut``: bytes taken from the end (negative) or added."""

    rows: list[list[int]] = field(default_factory=list)
    body: Any = None
    edits: list[tuple[int, int]] = field(default_factory=list)
    cut: int = 0
    parts: int = 1

    def copy(self) -> Frame:
        """A copy that may be changed."""
        body = dict(self.body) if isinstance(self.body, dict) else self.body
        return Frame([list(r) for r in self.rows], body, list(self.edits), self.cut, self.parts)

    def render(self, token: int, next_request: int) -> bytes:
        """The bytes, from a sender with this token who is at this request."""
        body = self.body
        if isinstance(body, dict):
            if "token" in body and body["token"] == 0:
                body = {**body, "token": token}
            body = _encoded(body)
        out = []
        for row in self.rows:
            values = list(row)
            values[TOKEN] = (token + row[TOKEN]) & (2**64 - 1)
            values[REQUEST] = (next_request + row[REQUEST]) & (2**32 - 1)
            out.append(RECORD.pack(*values))
        data = bytearray(b"".join(out) + (body or b""))
        if self.cut < 0:
            del data[self.cut :]
        else:
            data += b"\0" * self.cut
        for place, value in self.edits:
            if data:
                data[place % len(data)] ^= value
        return bytes(data)


def _encoded(body: dict[Any, Any]) -> bytes:
    try:
        return msgspec.msgpack.encode(body)
    except (OverflowError, RecursionError):
        return b"\x81\xa1t\xcf" + b"\xff" * 8


def row(chance: random.Random, **fields: int) -> list[int]:
    """An order or a change that the market may take, or refuse by its rules."""
    pick = chance.random
    made = [0] * 14
    made[KIND] = (1, 1, 1, 1, 1, 2, 3, 4, 5, 6)[int(pick() * 10)]
    made[INSTRUMENT] = int(pick() * 2)
    made[PRICE] = 5_300 + int(pick() * 1_400)
    made[QUANTITY] = 1 + int(pick() * 50)
    made[SIDE], made[TYPE] = int(pick() * 2), int(pick() * 5)
    if made[KIND] != 1:
        made[ORDER] = int(pick() * 400)
    return made


def _fields(classes: dict[str, Any]) -> dict[str, tuple[tuple[str, bool, tuple[Any, ...]], ...]]:
    """Tag → (name, required, plausible values) of each field."""
    return {
        tag: tuple((f.name, f.required, PLAUSIBLE.get(f.name, ("x", 1, {}))) for f in msgspec.structs.fields(c))
        for tag, c in classes.items()
    }


FIELDS = {**_fields(COMMANDS), **_fields(CONTROLS)}


def message(chance: random.Random, tag: str) -> dict[str, Any]:
    """A map of a message's type with plausible values."""
    made: dict[str, Any] = {"t": tag}
    for name, required, values in FIELDS[tag]:
        if name == "token":
            made["token"] = 0
        elif required or chance.random() < 0.5:
            made[name] = values[int(chance.random() * len(values))]
    return made


def fresh(chance: random.Random, tags: tuple[str, ...]) -> Frame:
    """A good frame by the grammar: records, a slow-lane command of one of ``tags``, or a control message."""
    kind = chance.random()
    if kind < 0.4:
        return Frame(rows=[row(chance)])
    if kind < 0.48:
        count = chance.choice((2, 2, 3, 5, 8, 40))
        rows = [row(chance) for _ in range(count)]
        for i in range(count):
            rows[i][REQUEST] = i
        return Frame(rows=rows)
    if kind < 0.76:
        tag = chance.choice(tags)
        if tag in RARE and chance.random() < 0.95:
            tag = chance.choice(MEMBERS_OWN)
        return command(message(chance, tag))
    tag = chance.choice(("heartbeat", "query", "query", "query", "retransmit", "dead_man", "login", *CONTROLS))
    if tag in RARE and chance.random() < 0.95:
        tag = "query"
    return Frame(body=message(chance, tag))


def command(body: Any) -> Frame:
    """The frame of a slow-lane command: its record names the payload's length."""
    made = [0] * 14
    made[KIND] = MESSAGE
    made[QUANTITY] = len(_encoded(body) if isinstance(body, dict) else body)
    return Frame(rows=[made], body=body)


def mutated(chance: random.Random, frame: Frame, other: Frame) -> Frame:
    """A copy with one to three changes; ``other`` lends parts."""
    made = frame.copy()
    if chance.random() < 0.5:
        repair(made)
    for _ in range(chance.choice((1, 1, 2, 3))):
        change = chance.random()
        if change < 0.08:
            made.cut = chance.choice((-1, -63, -64, 1, 63, 64, 65_536))
        elif change < 0.18:
            made.edits.append((chance.randrange(1 << 16), 1 << chance.randrange(8)))
            del made.edits[:-8]
        elif change < 0.2:
            made.parts = chance.choice((2, 5_000))
        elif change < 0.25:
            made.rows, made.body = (made.rows, other.body) if chance.random() < 0.5 else (other.rows, made.body)
            made = made.copy()
        elif made.body is not None and (not made.rows or chance.random() < 0.8):
            _mutate_body(chance, made)
        elif made.rows:
            mutate_rows(chance, made, other)
    if made.rows and made.rows[0][KIND] == MESSAGE and chance.random() < 0.9:
        body = made.body or b""
        made.rows[0][QUANTITY] = len(_encoded(body) if isinstance(body, dict) else body) + max(0, made.cut)
    return made


def repair(made: Frame) -> None:
    """Takes back what is refused before anything else is looked at, so that the change that follows counts."""
    for i, r in enumerate(made.rows):
        r[SEQ] = r[TIME] = r[TOKEN] = r[ACCOUNT] = r[SESSION] = 0
        r[REQUEST] = i
    made.cut, made.parts, made.edits = 0, 1, []


def mutate_rows(chance: random.Random, made: Frame, other: Frame) -> None:
    """One change in a frame's records; ``other`` lends some."""
    way = chance.random()
    at = chance.randrange(len(made.rows))
    if way < 0.1 and len(made.rows) < 1_000:
        made.rows.insert(at, list(made.rows[at]))  # twice the same request
    elif way < 0.15 and len(made.rows) > 1:
        del made.rows[at]  # a gap
    elif way < 0.2:
        made.rows = [[*r[:REQUEST], i, *r[REQUEST + 1 :]] for i, r in enumerate(made.rows)]
    elif way < 0.3 and other.rows:
        made.rows[at] = list(chance.choice(other.rows))
    elif way < 0.4:
        made.rows[at][REQUEST] = chance.choice((-1, -1, -2, -5, 1, 2**31))
    else:
        name = chance.randrange(14)
        value = chance.choice(EDGES)
        if chance.random() < 0.3:
            value += made.rows[at][name]
        value &= (1 << BITS[name]) - 1
        made.rows[at][name] = value - (1 << 64) if name in SIGNED and value >= 1 << 63 else value


def _mutate_body(chance: random.Random, made: Frame) -> None:
    body = made.body
    if isinstance(body, bytes):
        made.body = body[: chance.randrange(len(body) + 1)] + chance.choice((b"", b"\xff", b"\x81\xa1t", DEEP))
        return
    way = chance.random()
    keys = list(body)
    if not keys or way < 0.1:
        body[chance.choice(("x", "t", "token", "by", "second", 5))] = chance.choice(NASTY)
    elif way < 0.2:
        del body[chance.choice(keys)]
    elif way < 0.75:
        key = chance.choice(keys)
        values = PLAUSIBLE.get(key)
        body[key] = chance.choice(values) if values else chance.choice(NASTY)
    elif way < 0.9:
        body[chance.choice(keys)] = chance.choice(NASTY)
    else:
        made.body = _encoded(body) + chance.choice((b"", b"\xc0", b"\x81\xa1t\xa1\xff", DEEP))
