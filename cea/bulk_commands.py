"""`cea bulk …`: the bulk-agreement desk from the command line (R9)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cea.connecting import member
from cea.member_commands import parsed_price
from cea.output import Exit, fail, print_json

app = typer.Typer(help="The bulk-agreement desk.", no_args_is_help=True, rich_markup_mode="rich")

Folder = Annotated[Path, typer.Option("--market", "-m", envvar="CEA_MARKET", help="The market folder.", metavar="DIR")]
Key = Annotated[
    str,
    typer.Option("--as", "-a", envvar="CEA_KEY", help="Whose key: an account number, or a key's name.", metavar="WHO"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Price = Annotated[str, typer.Argument(help="CNY per tonne, such as 55.00.")]
Quantity = Annotated[int, typer.Argument(help="Tonnes, at least 100,000.")]
Note = Annotated[str, typer.Option(help="Other terms, in a sentence.")]
Thread = Annotated[int, typer.Argument(help="Number of the dialogue.")]
Declaration = Annotated[int, typer.Argument(help="Number of the declaration.")]
HERE = Path("market")


def send(folder: Path, who: str, message: Any, as_json: bool) -> None:
    """Sends one command to the desk and tells what came of it."""
    with member(folder, who) as client:
        outcome = client.execute(message)
    if as_json:
        print_json(outcome.data)
    else:
        words = ", ".join(f"{name} {value}" for name, value in outcome.data.items())
        print(f"done{': ' if words else ''}{words}")


@app.command()
def declare(
    side: Annotated[str, typer.Argument(help="buy or sell")],
    code: Annotated[str, typer.Argument(help="Vintage, such as CEA24.")],
    price: Price,
    quantity: Quantity,
    partial: Annotated[bool, typer.Option("--partial", help="Parts of 100,000 t or more may be dealt.")] = False,
    to: Annotated[list[int] | None, typer.Option(help="Only to this account; may be given several times.")] = None,
    note: Note = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Declare a wish to buy or sell in bulk. It binds and locks in full until it is withdrawn or 15:00."""
    from engine.bulk_messages import BulkDeclare
    from engine.records import BUY, SELL

    if side not in ("buy", "sell"):
        fail(f"side {side!r}: expected buy or sell", Exit.USAGE)
    message = BulkDeclare(
        side=BUY if side == "buy" else SELL,
        instrument=code.upper(),
        price=parsed_price(price),
        quantity=quantity,
        partial=partial,
        to=tuple(to or ()),
        note=note,
    )
    send(folder, who, message, as_json)


@app.command()
def withdraw(declaration: Declaration, folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """Take an own declaration back; its dialogues end."""
    from engine.bulk_messages import BulkWithdraw

    send(folder, who, BulkWithdraw(declaration=declaration), as_json)


@app.command()
def take(
    declaration: Declaration,
    price: Price,
    quantity: Quantity,
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Accept a declaration as it stands; its maker's confirmation makes the deal."""
    from engine.bulk_messages import BulkTake

    send(folder, who, BulkTake(declaration=declaration, price=parsed_price(price), quantity=quantity), as_json)


@app.command()
def offer(
    declaration: Declaration,
    price: Price,
    quantity: Quantity,
    note: Note = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Open a dialogue with a declaration by a first counter-offer."""
    from engine.bulk_messages import BulkOffer

    message = BulkOffer(declaration=declaration, price=parsed_price(price), quantity=quantity, note=note)
    send(folder, who, message, as_json)


@app.command()
def counter(
    thread: Thread,
    price: Price,
    quantity: Quantity,
    note: Note = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Answer the other side's offer with one's own."""
    from engine.bulk_messages import BulkCounter

    send(folder, who, BulkCounter(thread=thread, price=parsed_price(price), quantity=quantity, note=note), as_json)


@app.command()
def accept(
    thread: Thread, price: Price, quantity: Quantity, folder: Folder = HERE, who: Key = "", as_json: Json = False
) -> None:
    """Accept the other side's offer, naming its terms: the first of the two confirmations."""
    from engine.bulk_messages import BulkAccept

    send(folder, who, BulkAccept(thread=thread, price=parsed_price(price), quantity=quantity), as_json)


@app.command()
def confirm(
    thread: Thread, price: Price, quantity: Quantity, folder: Folder = HERE, who: Key = "", as_json: Json = False
) -> None:
    """Confirm what the other side has accepted, naming the terms: now it is a deal."""
    from engine.bulk_messages import BulkConfirm

    send(folder, who, BulkConfirm(thread=thread, price=parsed_price(price), quantity=quantity), as_json)


@app.command()
def refuse(thread: Thread, note: Note = "", folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """Refuse what the other side has put on the table: the dialogue ends."""
    from engine.bulk_messages import BulkRefuse

    send(folder, who, BulkRefuse(thread=thread, note=note), as_json)


@app.command()
def retract(thread: Thread, folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """Take back an own offer or acceptance before the deal: the dialogue ends."""
    from engine.bulk_messages import BulkRetract

    send(folder, who, BulkRetract(thread=thread), as_json)


@app.command("ls")
def list_command(folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """What the desk has told this member today: declarations, dialogues, deals, each as it last stood."""
    from engine.prices import format_price

    latest: dict[tuple[str, int], dict[str, Any]] = {}
    with member(folder, who) as client:
        client.sync()
        for report in client.poll():
            notice = report.notice or {}
            for kind, name in (("bulk_declaration", "declaration"), ("bulk_thread", "thread"), ("bulk_deal", "number")):
                if notice.get("t") == kind:
                    latest[kind, notice[name]] = notice
    if as_json:
        print_json(list(latest.values()))
        return
    for (kind, number), n in sorted(latest.items()):
        side = "buy" if n["side"] == 0 else "sell"
        what = f"{side} {n['instrument']} {n['quantity']:,} t at {format_price(n['price'])}"
        state = n.get("state", "deal")
        print(f"{kind.removeprefix('bulk_'):12} {number:>5}  {state:14} {what}  {n.get('note', '')}".rstrip())
    if not latest:
        print("nothing today")
