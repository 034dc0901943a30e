"""What if other rules had held: the same commands through a second engine, and how deals and closes differ.

Order ids are the engine's, so under other rules the same order has another id (or was refused). Both engines run side
by side, command by command, in machine code; a command that names an order of the first names its twin in the second.
Members would have acted otherwise under other rules: this shows the mechanics, not their answer.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from engine.book import kernel
from engine.exchange import Exchange, Output
from engine.kernel import DONE, run
from engine.market import Market
from engine.records import ACCEPTED, CANCEL, COMMAND, EVENT, FILL_MAKER, MESSAGE, NEW, REDUCE, REPLACE, TAKE
from replay.journal_reader import Reader, last_sequence
from replay.market_settings import Settings

TWIN: Final = np.dtype([("first", "<u8"), ("second", "<u8")])  # order id in the first and in the second engine
Progress = Callable[[int, int], None]


class VintageDifference(msgspec.Struct, frozen=True):
    """One vintage's day under both rules; prices and amounts in fen, volumes in tonnes."""

    date: int
    code: str
    deals: tuple[int, int]
    volume: tuple[int, int]
    amount: tuple[int, int]
    close: tuple[int, int]


class WhatIfReport(msgspec.Struct):
    """Totals under the journal's rules and under the others, and the vintage-days that differ."""

    changes: dict[str, Any]
    commands: int = 0
    rejected: list[int] = []
    deals: list[int] = []
    volume: list[int] = []
    amount: list[int] = []
    vintage_days: int = 0
    differences: list[VintageDifference] = []


@kernel
def _run_one(control, control_address, events, command_address, counts):
    """One command through one engine. Returns the id of the order that it made, 0 for none."""
    made = np.uint64(0)
    first = True
    status = np.int64(-1)
    while status != DONE:
        status = run(control_address, command_address, 1)
        if status not in (DONE, 1):  # the table of deals is full: Python grows it beforehand
            return made
        for w in range(control[np.uint64(0)].written):
            e = events[np.uint64(w)]
            if first and e.kind == ACCEPTED:
                made = e.order_id
            elif first and e.kind == 2:
                counts[0] += 1
            if e.kind == FILL_MAKER:
                counts[1] += 1
                counts[2] += e.quantity
                counts[3] += e.price * e.quantity
            first = False
    return made


@kernel
def _run_both(commands, scratch, scratch_address, twins, a, b, counts_a, counts_b):
    """All commands (no MESSAGE among them) through both engines; ``a`` and ``b``: control, its address, events."""
    for n in range(len(commands)):
        c = commands[n]
        scratch[0] = c
        made_a = _run_one(a[0], a[1], a[2], scratch_address, counts_a)
        if c.kind in (CANCEL, REDUCE, REPLACE, TAKE):
            slot = c.order_id & np.uint64(0xFFFFFFFF)
            known = slot < np.uint64(len(twins)) and twins[slot].first == c.order_id
            scratch[0].order_id = twins[slot].second if known else np.uint64(0)
        made_b = _run_one(b[0], b[1], b[2], scratch_address, counts_b)
        if made_a != np.uint64(0) and c.kind in (NEW, TAKE):
            slot = made_a & np.uint64(0xFFFFFFFF)
            twins[slot].first = made_a
            twins[slot].second = made_b


class WhatIf:
    """Two engines, one journal."""

    def __init__(self, settings: Settings, changes: dict[str, Any]) -> None:
        """ValueError (msgspec.ValidationError too) names a field of ``changes`` that the rules don't have or allow."""
        fields = {**msgspec.to_builtins(settings.rules), **changes}
        other = msgspec.convert(fields, type(settings.rules)).validate()
        self.engines = (settings.make(), settings._replace(rules=other).make())
        self.twins = np.zeros(len(self.engines[0].market.book.orders), TWIN)
        self.counts = np.zeros((2, 4), np.int64)
        self.report = WhatIfReport(changes=changes)
        self._scratch = np.zeros(1, COMMAND)
        assert COMMAND.itemsize == EVENT.itemsize

    def run(self, disk: Any, progress: Progress | None = None) -> WhatIfReport:
        """The whole journal through both. Accounts and days come with the journal's own messages."""
        total = last_sequence(disk) if progress else 0
        for group in Reader(disk):
            self._batch(group.commands, group.payloads)
            self.report.commands += len(group.commands)
            if progress:
                progress(int(group.commands["seq"][-1]), total)
        if not self.engines[0].market.market[0]["day_closed"]:
            self._compare_day()
        self.report.rejected = self.counts[:, 0].tolist()
        self.report.deals = self.counts[:, 1].tolist()
        self.report.volume = self.counts[:, 2].tolist()
        self.report.amount = self.counts[:, 3].tolist()
        return self.report

    def _batch(self, commands: np.ndarray, payloads: bytes) -> None:
        at, taken = 0, 0
        for message in [*np.flatnonzero(commands["kind"] == MESSAGE).tolist(), len(commands)]:
            self._listed(commands[at:message])
            if message < len(commands):
                size = int(commands[message]["quantity"])
                self._message(commands[message : message + 1], payloads[taken : taken + size])
                taken += size
            at = message + 1

    def _listed(self, commands: np.ndarray) -> None:
        if not len(commands):
            return
        for exchange in self.engines:
            _make_room(exchange, len(commands))
        lanes = []
        for exchange in self.engines:
            control, events = exchange.hot_lane()
            lanes.append((control, control.ctypes.data, events))
        _run_both(np.array(commands), self._scratch, self._scratch.ctypes.data, self.twins, *lanes, *self.counts)

    def _message(self, record: np.ndarray, payload: bytes) -> None:
        was_open = not self.engines[0].market.market[0]["day_closed"]
        outs = [exchange.apply(np.ascontiguousarray(record), payload) for exchange in self.engines]
        if was_open and self.engines[0].market.market[0]["day_closed"]:
            self._compare_day()
        assert all(isinstance(out, Output) for out in outs)

    def _compare_day(self) -> None:
        markets: list[Market] = [exchange.market for exchange in self.engines]
        for code, i in markets[0].codes.items():
            j = markets[1].codes.get(code)
            if j is None:
                continue
            rows = markets[0].instruments[i], markets[1].instruments[j]
            self.report.vintage_days += 1
            pairs = {n: (int(rows[0][n]), int(rows[1][n])) for n in ("deals", "volume", "amount", "close")}
            if any(a != b for a, b in pairs.values()):
                date = int(markets[0].market[0]["date"])
                self.report.differences.append(VintageDifference(date=date, code=code, **pairs))


def _make_room(exchange: Exchange, commands: int) -> None:
    """Room for every deal that these commands can make: each maker is dealt with once per command, plus its end."""
    if not exchange.rules.accounts:
        return
    market = exchange.market
    resting = int(market.book.pool[0]["live"])
    while len(market.deals) < int(market.market[0]["deals"]) + resting + 2 * commands:
        market.grow_deals()
        exchange._bind()
