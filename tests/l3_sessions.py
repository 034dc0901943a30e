"""Made-up order-by-order sessions with their expected fills and books, from a naive book of lists."""

from __future__ import annotations

from pathlib import Path

from replay.pseudo_random import PseudoRandom

EMPTY_ASK, EMPTY_BID = 9_999_999_999, -9_999_999_999


class NaiveBook:
    """Resting orders as [id, price, quantity] in order of arrival, per side."""

    def __init__(self) -> None:
        self.sides: dict[str, list[list]] = {"B": [], "S": []}

    def match(self, side: str, limit: int, quantity: int) -> tuple[list[tuple], int]:
        """Fills of an incoming order and what is left of it."""
        other, sign = self.sides["S" if side == "B" else "B"], 1 if side == "B" else -1
        fills = []
        for order in sorted(other, key=lambda o: sign * o[1]):  # stable: time inside a price
            if not quantity or sign * order[1] > sign * limit:
                break
            size = min(quantity, order[2])
            fills.append((order[0], order[1], size))
            order[2] -= size
            quantity -= size
        other[:] = [o for o in other if o[2]]
        return fills, quantity

    def find(self, name: str) -> list | None:
        return next((o for side in self.sides.values() for o in side if o[0] == name), None)

    def remove(self, name: str) -> None:
        for side in self.sides.values():
            side[:] = [o for o in side if o[0] != name]

    def levels(self, side: str, count: int) -> list[tuple[int, int, int]]:
        """Best price levels: price, size, orders."""
        table: dict[int, list[int]] = {}
        for _, price, quantity in self.sides[side]:
            row = table.setdefault(price, [0, 0])
            row[0] += quantity
            row[1] += 1
        best = sorted(table, reverse=side == "B")[:count]
        return [(p, *table[p]) for p in best]

    def lobster_row(self, count: int) -> str:
        fields: list[int] = []
        asks, bids = self.levels("S", count), self.levels("B", count)
        for n in range(count):
            fields += asks[n][:2] if n < len(asks) else (EMPTY_ASK, 0)
            fields += bids[n][:2] if n < len(bids) else (EMPTY_BID, 0)
        return ",".join(map(str, fields))

    def mbp_fields(self, scale: int) -> list[str]:
        fields = []
        bids, asks = self.levels("B", 10), self.levels("S", 10)
        for n in range(10):
            for side in (bids, asks):
                if n < len(side):
                    p, q, c = side[n]
                    fields += [f"{p // scale}.{p % scale:09d}".rstrip("0"), str(q), str(c)]
                else:
                    fields += ["", "0", "0"]
        return fields


def random_session(
    folder: Path, name: str, *, seed: int, prices: list[int], commands: int, checks: str, levels: int = 3
) -> Path:
    """Writes ``name.cmd.csv`` and its book file; ids are words, and dead ones come again. Returns the stream's path."""
    chance, book = PseudoRandom(seed), NaiveBook()
    lines: list[str] = []
    rows: list[str] = []
    dead: list[str] = []
    for row in range(commands):
        live = [o for side in book.sides.values() for o in side]
        draw = chance.below(10)
        if draw < 6 or not live:
            side, quantity = chance.one_of("BS"), chance.between(1, 50)
            price = chance.one_of(prices)
            immediate = chance.below(5) == 0
            if immediate:
                price += chance.between(-3, 3)  # between the ladder's steps, and beyond its ends
                lines.append(f"I,{row},{side},{price},{quantity}")
            else:
                order = dead.pop(chance.below(len(dead))) if dead and chance.below(2) else f"Auftrag-{row}é"
                lines.append(f"N,{row},{order},{side},{price},{quantity}")
            before = {o[0] for o in live}
            fills, left = book.match(side, price, quantity)
            lines += [f"F,{row},{o},{p},{q}" for o, p, q in fills]
            if left and not immediate:
                book.sides[side].append([order, price, left])
            dead += sorted(before - {o[0] for s in book.sides.values() for o in s})
        elif draw < 8:
            order = chance.one_of(live)
            by = chance.between(1, order[2])
            lines.append(f"R,{row},{order[0]},{by}")
            order[2] -= by
            if not order[2]:
                book.remove(order[0])
        else:
            order = chance.one_of(live)
            lines.append(f"C,{row},{order[0]}")
            book.remove(order[0])
        if checks == "B":
            lines.append(f"B,{row}")
            rows.append(book.lobster_row(levels))
        elif checks == "K":
            lines.append(f"K,{row}")
            rows.append(",".join([str(row), *book.mbp_fields(10**9)]))
    if checks == "K":
        names = [f"{s}_{w}_{n:02d}" for n in range(10) for s in ("bid", "ask") for w in ("px", "sz", "ct")]
        rows.insert(0, "," + ",".join(names))
    if checks:
        end = ".mbp-10.csv" if checks == "K" else ".orderbook.csv"
        (folder / f"{name}{end}").write_text("\n".join(rows) + "\n")
    path = folder / f"{name}.cmd.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def random_lobster(folder: Path, name: str, *, seed: int, levels: int, commands: int) -> tuple[Path, Path]:
    """A LOBSTER pair of a made-up session: rows only for what happens inside the best ``levels`` prices of a side."""
    chance, book = PseudoRandom(seed), NaiveBook()
    messages: list[str] = []
    rows: list[str] = []
    time_ns = 34_200 * 10**9
    mid = 10_000

    def visible(side: str, price: int) -> bool:
        return price in [p for p, _, _ in book.levels(side, levels)]

    def tell(kind: int, order: str, size: int, price: int, side: str) -> None:
        direction = 1 if side == "B" else -1
        text = f"{time_ns // 10**9}.{time_ns % 10**9:09d}".rstrip("0")
        messages.append(f"{text},{kind},{order},{size},{price},{direction}")
        rows.append(book.lobster_row(levels))

    for number in range(1, commands + 1):
        time_ns += chance.between(1, 10**9)
        live = [(s, o) for s, side in book.sides.items() for o in side]
        draw = chance.below(10)
        if draw < 5 or len(live) < 8:
            side = chance.one_of("BS")
            away = chance.between(1, 12)
            price, size = mid + (-away if side == "B" else away), chance.between(1, 90)
            book.sides[side].append([str(number), price, size])
            if visible(side, price):
                tell(1, str(number), size, price, side)
        elif draw < 8:
            side, order = chance.one_of(live)
            before, size = visible(side, order[1]), order[2]
            if size > 1 and chance.below(2):
                order[2] -= (by := chance.between(1, size - 1))
                if before:
                    tell(2, order[0], by, order[1], side)
            else:
                book.remove(order[0])
                if before:
                    tell(3, order[0], size, order[1], side)
        elif draw == 8:
            tell(5, "0", 10, mid, chance.one_of("BS"))
        else:
            side = chance.one_of("BS")  # of the resting orders
            best = sorted(book.sides[side], key=lambda o: -o[1] if side == "B" else o[1])
            left = chance.between(1, 150)
            for order in best[:6]:
                size = min(left, order[2])
                order[2] -= size
                left -= size
                if not order[2]:
                    book.remove(order[0])
                tell(4, order[0], size, order[1], side)
                if not left:
                    break
    message, orderbook = folder / f"{name}_message.csv", folder / f"{name}_orderbook.csv"
    message.write_text("\n".join(messages) + "\n")
    orderbook.write_text("\n".join(rows) + "\n")
    return message, orderbook
