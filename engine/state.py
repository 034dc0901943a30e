"""The exchange's whole state as bytes: hash, snapshot, restore, and the audit of locks.

Only what is used is written: opened accounts, listed instruments, slots ever used. Levels and bitmaps follow from
the orders and are rebuilt, so a snapshot of a wide band is as small as its orders. The parts, in order, are hashed
as they lie in memory: the same commands give the same bytes, in any cutting into batches (tested).

Snapshot layout: 8-byte magic, u32 length of a MessagePack header, the header (format, rules hash, list of
name/dtype/count, sizes), then the parts without padding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from engine.book import BOOK_SIDE, TIERS
from engine.machine_code import native
from engine.market import Market
from engine.memory import aligned_zeros
from engine.prices import fee_fen

if TYPE_CHECKING:
    from engine.exchange import Exchange

MAGIC = b"CEASNAP1"
FORMAT = 1
ROOM_SHARE = 8  # of a snapshot, kept free in its memory for the orders to come

OPEN_ORDER = np.dtype(
    [
        ("order_id", "<u8"),
        ("price", "<i8"),
        ("leaves", "<i8"),
        ("filled", "<i8"),
        ("filled_amount", "<i8"),
        ("account", "<u4"),
        ("slot", "<u4"),
        ("session", "<u2"),
        ("instrument", "<u2"),
        ("side", "u1"),
        ("post_only", "u1"),
    ]
)
"""One open listed order, as statements and audits show it."""

# MARKET fields that say how much there is room for, not what is so
CAPACITY_FIELDS = ("deals_capacity", "n_accounts", "n_sessions")


def _arrays(market: Market) -> dict[str, np.ndarray]:
    """The used part of every table, by name, in the order of hash and snapshot."""
    opened = np.flatnonzero(market.accounts["status"])
    accounts = int(opened[-1]) + 1 if len(opened) else 0
    used_sessions = np.flatnonzero(market.sessions["last_request"] | market.sessions["open"])
    sessions = int(used_sessions[-1]) + 1 if len(used_sessions) else 0
    instruments, slots = len(market.codes), int(market.book.pool[0]["unused"])
    head = market.market.copy()
    for name in CAPACITY_FIELDS:
        head[name] = 0
    pool = market.book.pool.copy()
    pool["capacity"] = 0
    return {
        "market": head,
        "instruments": market.instruments[:instruments],
        "accounts": market.accounts[:accounts],
        "holdings": np.ascontiguousarray(market.holdings[:accounts, :instruments]).reshape(-1),
        "sessions": market.sessions[:sessions],
        "deals": market.deals[: int(head[0]["deals"]) if market.rules.accounts else 0],
        "pool": pool,
        "sides": _sides(market, instruments),
        "orders": market.book.orders[:slots],
        "cold": market.cold[:slots],
    }


def _sides(market: Market, instruments: int) -> np.ndarray:
    """Best level and number of orders of each side; offsets are a matter of capacity."""
    sides = np.zeros(2 * instruments, BOOK_SIDE)
    for name in ("best", "n_levels", "orders"):
        sides[name] = market.book.sides[: 2 * instruments][name]
    return sides


def _machines(exchange: Exchange) -> dict[str, Any]:
    return {"administration": exchange.administration, "desk": exchange.desk, "auctions": exchange.auctions}


def parts(exchange: Exchange) -> Iterator[bytes | memoryview]:
    """The state's bytes, part by part, for hashing."""
    yield from tables(exchange)
    yield from machines(exchange)


def tables(exchange: Exchange, *, deals: bool = True) -> Iterator[bytes | memoryview]:
    """Those of the tables; ``deals`` False: without the day's deals."""
    for name, array in _arrays(exchange.market).items():
        if name == "deals" and not deals:
            continue
        yield name.encode()
        if name == "orders":  # slot 0 is nobody's state
            array = array[1:]
        if len(array):
            yield np.ascontiguousarray(array).view("u1").data


def machines(exchange: Exchange) -> Iterator[bytes]:
    """Those of the state machines, which only messages change."""
    for name, machine in _machines(exchange).items():
        yield name.encode()
        yield machine.dump()


def dump(exchange: Exchange) -> bytes:
    """A snapshot: see the module's text for its layout."""
    return b"".join(_snapshot(exchange))


def copy_into(exchange: Exchange, room: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The same bytes in ``room`` (uint8[n]) where they fit, else in new and larger memory: (snapshot, room).

    One copy at memory speed, which is all that the market waits for; ``room`` is kept for the next time, since memory
    that is touched for the first time costs several times the copy.
    """
    pieces = _snapshot(exchange)
    size = sum(map(len, pieces))
    if room is None or room.size < size:
        room = aligned_zeros(size + size // ROOM_SHARE, np.dtype(np.uint8))
    at = 0
    for piece in pieces:
        room[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return room[:size], room


def _snapshot(exchange: Exchange) -> list[bytes | memoryview]:
    """The snapshot's bytes in order: views of the tables, valid until the next command."""
    arrays = _arrays(exchange.market)
    machines = {name: machine.dump() for name, machine in _machines(exchange).items()}
    header = msgspec.msgpack.encode(
        {
            "format": FORMAT,
            "rules": exchange.rules.hash(),
            "arrays": [[name, len(array)] for name, array in arrays.items()],
            "codes": list(exchange.market.codes),
            "machines": [[name, len(data)] for name, data in machines.items()],
        }
    )
    tables = [np.ascontiguousarray(array).view("u1").data for array in arrays.values() if len(array)]
    return [MAGIC, struct.pack("<I", len(header)), header, *tables, *machines.values()]


def load(exchange: Exchange, data: bytes | memoryview) -> None:
    """Puts a snapshot into a fresh exchange. ValueError names what does not fit."""
    view = memoryview(data)
    if bytes(view[:8]) != MAGIC:
        raise ValueError("snapshot: not a snapshot of this format (magic)")
    (length,) = struct.unpack("<I", view[8:12])
    header = msgspec.msgpack.decode(view[12 : 12 + length])
    if header["format"] != FORMAT:
        raise ValueError(f"snapshot: format {header['format']}, this program reads {FORMAT}")
    if header["rules"] != exchange.rules.hash():
        raise ValueError("snapshot: made under other rules")
    at, market = 12 + length, exchange.market
    sizes = dict(header["arrays"])
    market.codes = {code: index for index, code in enumerate(header["codes"])}
    if len(market.deals) < sizes["deals"]:
        market.grow_deals(sizes["deals"])
    targets = _targets(market, len(market.codes))
    for name, count in header["arrays"]:
        dtype = targets[name].dtype
        array = np.frombuffer(view[at : at + count * dtype.itemsize], dtype)
        at += count * dtype.itemsize
        if count > len(targets[name]) and name != "holdings":
            raise ValueError(f"snapshot: {count} {name}, capacity {len(targets[name])}")
        _put(market, name, array, targets[name])
    for name, size in header["machines"]:
        _machines(exchange)[name].load(bytes(view[at : at + size]))
        at += size
    if at != len(view):
        raise ValueError("snapshot: longer or shorter than its header says")
    _rebuild_levels(market.book.orders, market.book.levels, market.book.sides, int(market.book.pool[0]["unused"]))
    _rebuild_bitmap(market)


def _targets(market: Market, instruments: int) -> dict[str, np.ndarray]:
    b = market.book
    return {
        "market": market.market,
        "instruments": market.instruments,
        "accounts": market.accounts,
        "holdings": market.holdings.reshape(-1),
        "sessions": market.sessions,
        "deals": market.deals,
        "pool": b.pool,
        "sides": b.sides[: 2 * instruments],
        "orders": b.orders,
        "cold": market.cold,
    }


def _put(market: Market, name: str, array: np.ndarray, target: np.ndarray) -> None:
    if name == "holdings":
        instruments = len(market.codes)
        rows = len(array) // instruments if instruments else 0
        market.holdings[:rows, :instruments] = array.reshape(rows, instruments) if rows else 0
    elif name == "market":
        kept = {field: target[0][field].copy() for field in CAPACITY_FIELDS}
        target[:] = array
        for field, value in kept.items():
            target[0][field] = value
        target[0]["deals_capacity"] = len(market.deals)
    elif name == "pool":
        capacity = target[0]["capacity"].copy()
        target[:] = array
        target[0]["capacity"] = capacity
    elif name == "sides":
        for field in ("best", "n_levels", "orders"):
            target[field] = array[field]
        for instrument in range(len(array) // 2):
            market.lay_ladder(instrument)
    else:  # as bytes: numpy copies records field by field, which for a million deals is most of a restore
        target[: len(array)].view(np.uint8)[:] = array.view(np.uint8)


@native()
def _rebuild_levels(orders: Any, levels: Any, sides: Any, unused: int) -> None:
    for slot in range(1, unused):
        order = orders[slot]
        if order.leaves > 0:
            side = sides[2 * np.int64(order.instrument) + np.int64(order.flags & 1)]
            level = levels[np.int64(side.levels_offset) + np.int64(order.level)]
            level.quantity += order.leaves
            level.count += 1
            if order.prev == 0:
                level.head = slot
            if order.next == 0:
                level.tail = slot


def _rebuild_bitmap(market: Market) -> None:
    b = market.book
    for side in b.sides[: 2 * len(market.codes)]:
        offset, n = int(side["levels_offset"]), int(side["n_levels"])
        bits = np.flatnonzero(b.levels[offset : offset + n]["count"])
        for tier in range(TIERS):
            base = int(side[f"tier{tier}"])
            np.bitwise_or.at(b.bitmap, base + (bits >> 6), np.uint64(1) << (bits & 63).astype(np.uint64))
            bits = np.unique(bits >> 6)


def open_orders(market: Market, account: int | None = None) -> np.ndarray:
    """Open listed orders (of an account) in slot order: OPEN_ORDER records."""
    used = market.book.orders[: int(market.book.pool[0]["unused"])]
    live = used["leaves"] > 0
    if account is not None:
        live &= used["account"] == account
    slots = np.flatnonzero(live)
    found = np.zeros(len(slots), OPEN_ORDER)
    rows, cold = used[slots], market.cold[slots]
    found["slot"] = slots
    found["order_id"] = (rows["generation"].astype(np.uint64) << np.uint64(32)) | slots.astype(np.uint64)
    for name in ("leaves", "account", "session", "instrument"):
        found[name] = rows[name]
    found["filled"], found["filled_amount"] = cold["filled"], cold["filled_amount"]
    found["side"], found["post_only"] = rows["flags"] & 1, (rows["flags"] >> 1) & 1
    instruments = market.instruments[rows["instrument"]]
    n_levels = instruments["n_levels"].astype(np.int64)
    level = rows["level"].astype(np.int64)
    tick = np.where(found["side"] == 1, level, n_levels - 1 - level)
    found["price"] = instruments["band_base"] + tick * instruments["tick"]
    return found


def check_locks(exchange: Exchange) -> None:
    """Asserts that every locked fen and tonne belongs to exactly one open order, declaration, bid or transfer."""
    market = exchange.market
    if not market.rules.accounts:
        return
    cash: dict[int, int] = {}
    allowances: dict[tuple[int, int], int] = {}
    m = market.market[0]
    open_count: dict[int, int] = {}
    for order in open_orders(market):
        account, instrument = int(order["account"]), int(order["instrument"])
        open_count[account] = open_count.get(account, 0) + 1
        if order["side"] == 1:
            key = account, instrument
            allowances[key] = allowances.get(key, 0) + int(order["leaves"])
        else:
            rest, filled = int(order["price"]) * int(order["leaves"]), int(order["filled_amount"])
            for ppm in (int(m["trading_ppm"]), int(m["settlement_ppm"])):
                cash[account] = cash.get(account, 0) + fee_fen(filled + rest, ppm) - fee_fen(filled, ppm)
            cash[account] += rest
    for machine in (exchange.desk, exchange.auctions):
        more_cash, more_allowances = machine.locks()
        for account, amount in more_cash.items():
            cash[account] = cash.get(account, 0) + amount
        for key, quantity in more_allowances.items():
            allowances[key] = allowances.get(key, 0) + quantity
    for account in np.flatnonzero(market.accounts["locked"]).tolist():
        assert cash.get(account, 0) == market.accounts[account]["locked"], f"account {account}: locked cash"
    assert sum(cash.values()) == int(market.accounts["locked"].sum()), "locked cash without an owner"
    for account, instrument in np.argwhere(market.holdings["locked"]).tolist():
        held = market.holdings[account, instrument]["locked"]
        assert allowances.get((account, instrument), 0) == held, f"account {account}: locked allowances"
    assert sum(allowances.values()) == int(market.holdings["locked"].sum()), "locked allowances without an owner"
    for account in np.flatnonzero(market.accounts["open_orders"]).tolist():
        assert open_count.get(account, 0) == market.accounts[account]["open_orders"], f"account {account}: orders"
