"""`cea order`, `cancel`, `orders`, `fills`, `balances`: one member's session for one question or message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cea.connecting import chosen_key, explained, member
from cea.output import Exit, console, fail, print_json, table

if TYPE_CHECKING:
    from rich.table import Table


def parsed_price(text: str) -> int:
    """Fen of what was typed; a wrong price is a usage error."""
    from engine.prices import parse_price

    try:
        return parse_price(text)
    except ValueError as error:
        fail(str(error), Exit.USAGE)


def order_command(
    folder: Path, who: str, side: str, code: str, price: str, quantity: int, kind: str, *, as_json: bool
) -> None:
    """Sends one order and tells its outcome."""
    from engine.prices import format_price
    from gateway.client import TYPES

    if side not in ("buy", "sell"):
        fail(f"side {side!r}: expected buy or sell", Exit.USAGE)
    if kind not in TYPES:
        fail(f"type {kind!r}: expected one of {', '.join(TYPES)}", Exit.USAGE)
    fen = parsed_price(price)
    with member(folder, who) as client:
        try:
            order = client.order(side, code.upper(), fen, quantity, type=kind)
        except (ValueError, OverflowError) as error:
            fail(str(error), Exit.USAGE)
    if as_json:
        print_json(order)
    elif order.accepted:
        print(f"order {order.order_id}: {order.status}, {order.filled:,} t dealt, {order.leaves:,} t open")
        for fill in order.fills:
            print(f"  deal {fill.deal}: {fill.quantity:,} t at {format_price(fill.price)}")
        if order.text:
            print(f"  rest: {order.text}")
    if not order.accepted:
        fail(f"refused: {order.text} (code {order.code})", Exit.NO)


def cancel_command(folder: Path, who: str, order_id: str, *, as_json: bool) -> None:
    """Cancels one order or all."""
    if order_id != "all" and not (order_id.isascii() and order_id.isdigit()):
        fail(f"order id {order_id!r}: expected a number, or all", Exit.USAGE)
    with member(folder, who) as client:
        outcome = client.mass_cancel() if order_id == "all" else client.cancel(int(order_id))
    if as_json:
        print_json(outcome)
    elif outcome.ok and order_id == "all":
        print(f"{outcome.quantity} orders cancelled")
    elif outcome.ok:
        print(f"order {order_id}: cancelled, {outcome.quantity:,} t taken away")
    if not outcome.ok:
        fail(f"refused: {outcome.text} (code {outcome.code})", Exit.NO)


def orders_command(folder: Path, who: str, *, as_json: bool) -> None:
    """Open orders of the account, or of a drop copy's accounts."""
    from engine.prices import format_price
    from engine.records import BUY, NO_ACCOUNT

    with member(folder, who) as client:
        rows = client.open_orders()
        found = [
            {
                "account": int(r["account"]),
                "order_id": int(r["order_id"]),
                "instrument": client.code_of(int(r["instrument"])),
                "side": "buy" if r["side"] == BUY else "sell",
                "price": int(r["price"]),
                "leaves": int(r["leaves"]),
                "filled": int(r["filled"]),
            }
            for r in rows
        ]
        account = client.account
    if as_json:
        print_json(found)
        return
    cells: list[Sequence[Any]] = [
        (
            o["order_id"],
            o["instrument"],
            o["side"],
            format_price(_int(o["price"])),
            f"{o['leaves']:,}",
            f"{o['filled']:,}",
            o["account"],
        )
        for o in found
    ]
    columns = ("order id", "vintage", "side", "price", "open t", "dealt t", "account")
    print(f"Open orders of {'its accounts' if account == NO_ACCOUNT else f'account {account}'}: {len(found)}")
    console().print(_whose(account, columns, cells, left=3))


def _whose(account: int, columns: Sequence[str], cells: Sequence[Sequence[Any]], *, left: int) -> Table:
    """A table whose last column is the account: left away where all rows are of the key's own."""
    from engine.records import NO_ACCOUNT

    if account == NO_ACCOUNT:
        return table(columns, cells, left=left)
    return table(columns[:-1], [row[:-1] for row in cells], left=left)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def fills_command(folder: Path, who: str, *, as_json: bool) -> None:
    """Today's fills of the session's orders, or of a drop copy's accounts."""
    from engine.calendar import format_time
    from engine.prices import format_amount, format_price

    with member(folder, who) as client:
        client.sync()
        found, account = client.fills(), client.account
    if as_json:
        print_json(found)
        return
    columns = ("time", "vintage", "side", "as", "price", "t", "CNY", "deal", "order id", "account")
    cells: list[Sequence[Any]] = [
        (
            format_time(f.time_ns),
            f.instrument,
            f.side,
            "maker" if f.maker else "taker",
            format_price(f.price),
            f"{f.quantity:,}",
            format_amount(f.price * f.quantity),
            f.deal,
            f.order_id,
            f.account,
        )
        for f in found
    ]
    print(f"Fills of today: {len(found)}")
    console().print(_whose(account, columns, cells, left=4))


def balances_command(folder: Path, who: str, *, as_json: bool) -> None:
    """Cash and allowances of the account."""
    from engine.prices import format_amount

    with member(folder, who) as client:
        found = client.balances()
    if as_json:
        print_json(found)
        return
    out = console()
    for row in found:
        print(
            f"account {row['account']}: available {format_amount(row['available'])} CNY, locked "
            f"{format_amount(row['locked'])}, withdrawable {format_amount(row['withdrawable'])}"
        )
        names = ("sellable", "bought_today", "locked", "in_transfer", "sold_today")
        cells = [(code, *(f"{h[name]:,}" for name in names)) for code, h in row["holdings"].items()]
        out.print(table(("vintage", *(name.replace("_", " ") for name in names)), cells))


def certify_command(folder: Path, who: str, only: Sequence[int], *, at: str, as_json: bool) -> None:
    """Runs the cards, of a market folder's exchange or at an address, and tells what each found."""
    from gateway.cards import CARDS, certify, prove_login

    known = [card.number for card in CARDS]
    unknown = [n for n in only if n not in known]
    if unknown:
        fail(f"card {unknown[0]}: there are {known[0]} … {known[-1]}", Exit.USAGE)
    if at and not who:
        fail("--at needs a key file: name it with --as", Exit.USAGE)
    where, key = (at, who) if at else (folder, chosen_key(folder, who))
    with explained(None if at else folder):
        prove_login(where, key)
        results = certify(where, key, lambda card: not only or card.number in only)
    if as_json:
        print_json([r._asdict() for r in results])
    else:
        rows = [(r.number, r.title, "passed" if r.passed else "FAILED" if r.tried else "not tried") for r in results]
        console().print(table(("card", "what it is about", "result"), rows, left=3))
        for r in results:
            if not r.passed:
                print(f"card {r.number}, {r.title}: {r.reason}")
        untried = sum(not r.tried for r in results)
        more = f", {untried} could not be tried" if untried else ""
        passed = f"{sum(r.passed for r in results)} of {len(results)} cards passed{more}"
        print(f"{passed}; each is described in docs/protocol.md")
    failed = [r for r in results if r.failed]
    if failed:
        fail(f"{len(failed)} of {len(results)} cards failed", Exit.NO)
