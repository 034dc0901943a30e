"""`cea registry …`: a day's settlement: its deals and fees, what failed, objections."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from settlement.command_line import (
    HERE,
    Account,
    Csv,
    Date,
    Db,
    Document,
    Json,
    answer,
    app,
    fail,
    now_ns,
    open_registry,
    print_rows,
)


@app.command()
def day(date: Date, db: Db = HERE, as_json: Json = False) -> None:
    """Where the settlement of a day stands, and which deals are held."""
    from settlement.delivery import Delivery
    from settlement.errors import Refused

    found = Delivery(open_registry(db)).day(date)
    if isinstance(found, Refused):
        fail(str(found))
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    s = found.summary
    yuan = f"{s.amount_fen // 100:,}.{s.amount_fen % 100:02d}"
    print(f"{date}: {found.state} · {s.deals} deals · {s.quantity_t:,} t · {yuan} CNY")
    for held in found.held:
        print(f"  deal {held.deal_id}: {held.state}: {held.reason}")


@app.command("fees")
def fees(date: Date, db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """The fees of a day's deals in fen, each in the exchange's and the registry's part (R5.7)."""
    columns = ("deal_id", "account", "side", "trading_fen", "settlement_fen")
    found = open_registry(db).fees_of_deals(date)
    print_rows(columns, [[getattr(row, name) for name in columns] for row in found], as_json, as_csv)


@app.command("resolve")
def resolve(
    deal: int,
    how: Annotated[str, typer.Argument(help="retry, cover (by the risk reserve) or reverse.")],
    document: Document,
    by: Annotated[str, typer.Option(help="Who decided.")],
    db: Db = HERE,
) -> None:
    """Resolve a held deal (D26)."""
    from settlement.deals import date_of
    from settlement.delivery import Delivery
    from settlement.errors import Refused

    delivery = Delivery(open_registry(db))
    if how == "retry":
        result = delivery.retry(date_of(deal), now_ns())
    elif how == "cover":
        result = delivery.cover(deal, document, by, now_ns())
    elif how == "reverse":
        result = delivery.reverse(deal, document, by, now_ns())
    else:
        fail(f"how: {how!r} is not retry, cover or reverse", 2)
    if isinstance(result, Refused):
        fail(str(result))
    print(f"{result.date}: {result.state}")


@app.command("object")
def object_to(
    account: Account,
    date: Date,
    why: Annotated[str, typer.Argument(help="What is wrong with the statement.")],
    document: Document,
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Record a trader's objection to its statement; possible until the next day opens (R12.4)."""
    from settlement.objections import Objections

    answer(Objections(open_registry(db)).object(account, date, why, document, now_ns()), as_json)


@app.command("answer")
def answer_objection(
    objection: Annotated[str, typer.Argument(help="Document of the objection.")],
    decision: Annotated[str, typer.Argument(help="The decision, in a sentence.")],
    document: Document,
    by: Annotated[str, typer.Option(help="Who decided.")],
    db: Db = HERE,
    as_json: Json = False,
) -> None:
    """Answer an objection."""
    from settlement.objections import Objections

    answer(Objections(open_registry(db)).answer(objection, decision, document, by, now_ns()), as_json)


@app.command("objections")
def objections(date: Date, db: Db = HERE, as_json: Json = False, as_csv: Csv = False) -> None:
    """A day's objections and their answers."""
    from settlement.objections import Objections

    columns = ("account", "date", "document", "why", "answer", "by")
    found = Objections(open_registry(db)).of_day(date)
    print_rows(columns, [[getattr(row, name) for name in columns] for row in found], as_json, as_csv)
