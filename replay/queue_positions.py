"""How many tonnes stand before a resting order at its own price, over the day: its place in the queue (R8.1).

Told from events alone. A level is its orders in order of priority; after each command that touched a level the
place of every order in it is looked at. Memory and time grow with the orders of one level, so this is for a day's
picture, not for markets with thousands of orders at a price.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from engine.calendar import day_start_ns, trading_date
from engine.exchange import Output
from engine.records import ACCEPTED, CANCELLED, FILL_MAKER, FILL_TAKER, NOTICE, REDUCED, REPLACED
from replay.journal import JournalReplay, Progress
from replay.journal_reader import MINUTE_NS
from replay.source_files import SourceError

FILLED: Final = "filled"
TAKEN_BACK: Final = "cancelled"
RESTING: Final = "resting"


class Place(msgspec.Struct):
    """One order's way through its queue: minutes of the day, and tonnes before it then."""

    order_id: int
    account: int
    side: int
    price: int
    minutes: list[float] = []
    ahead: list[int] = []
    end: str = RESTING

    @property
    def length(self) -> float:
        """Minutes for which it rested."""
        return self.minutes[-1] - self.minutes[0] if self.minutes else 0.0


class Queues:
    """The queues of one instrument, from its events in order."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.levels: dict[tuple[int, int], dict[int, int]] = {}  # (side, price) → order → leaves, in priority
        self.places: dict[int, Place] = {}
        self.touched: set[tuple[int, int]] = set()
        self._seq, self._time_ns = 0, 0

    def read(self, events: np.ndarray) -> None:
        """Events (EVENT[n]) of the instrument, whole commands."""
        names = ("seq", "time_ns", "price", "quantity", "leaves", "order_id", "account", "kind", "side")
        columns = (events[name].tolist() for name in names)
        for seq, time_ns, price, _, leaves, order, account, kind, side in zip(*columns, strict=True):
            if seq != self._seq:
                self._look()
            self._seq, self._time_ns = seq, time_ns
            if kind == ACCEPTED:
                self.places[order] = Place(order, account, side, price)
                self._put(order, leaves)
            elif order in self.places and kind == REPLACED:
                self._replace(order, price, leaves)
            elif order in self.places and kind in (FILL_MAKER, FILL_TAKER, CANCELLED, REDUCED):
                if leaves:
                    self._put(order, leaves)
                else:
                    self._leave(order, FILLED if kind in (FILL_MAKER, FILL_TAKER) else TAKEN_BACK)
        self._look()

    def _put(self, order: int, leaves: int) -> None:
        """A new order stands last; one that is there keeps its place."""
        place = self.places[order]
        level = (place.side, place.price)
        self.levels.setdefault(level, {})[order] = leaves
        self.touched.add(level)

    def _replace(self, order: int, price: int, leaves: int) -> None:
        """The same price and fewer tonnes keep the place, anything else loses it (D11)."""
        place = self.places[order]
        was = self.levels[place.side, place.price].get(order, 0)
        if price != place.price or leaves > was:
            del self.levels[place.side, place.price][order]
            self.touched.add((place.side, place.price))
            place.price = price
        self._put(order, leaves)

    def _leave(self, order: int, why: str) -> None:
        place = self.places[order]
        level = (place.side, place.price)
        if order in self.levels[level]:
            ahead = 0  # as it is now: in a sweep, those before it have left already
            for other, leaves in self.levels[level].items():
                if other == order:
                    break
                ahead += leaves
            del self.levels[level][order]
            place.end = why
            self._note(place, ahead)
        self.touched.add(level)

    def _note(self, place: Place, ahead: int) -> None:
        place.minutes.append((self._time_ns - self.start_ns) / MINUTE_NS)
        place.ahead.append(ahead)

    def _look(self) -> None:
        """After a command: the places in the levels that it touched."""
        for level in self.touched:
            ahead = 0
            for order, leaves in self.levels[level].items():
                place = self.places[order]
                if not place.ahead or place.ahead[-1] != ahead:
                    self._note(place, ahead)
                ahead += leaves
        self.touched.clear()


def collect_queues(
    replay: JournalReplay, code: str, date: int = 0, progress: Progress | None = None
) -> tuple[int, list[Place]]:
    """One day (0: the last) of one instrument: its date, and every order that rested. SourceError without one."""
    days: dict[int, Queues] = {}

    def watch(out: Output) -> None:
        index = replay.exchange.market.codes.get(code)
        if index is None or not len(out.events):
            return
        mine = out.events[(out.events["instrument"] == index) & (out.events["kind"] < NOTICE)]
        for today in sorted({trading_date(int(t)) for t in np.unique(mine["time_ns"])}):
            if date and today != date:
                continue
            if today not in days:
                days.clear()
                days[today] = Queues(day_start_ns(today))
            days[today].read(mine)

    replay.run(watch=watch, progress=progress)
    if not days:
        raise SourceError(code, f"has no day {date or ''} in this journal".replace("  ", " "))
    ((day, queues),) = days.items()
    return day, [place for place in queues.places.values() if place.length > 0]
