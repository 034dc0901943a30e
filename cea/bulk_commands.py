"""`cea bulk …`: the bulk-agreement desk from the command line (R9)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cea.connecting import member, operator
from cea.member_commands import parsed_price
from cea.options import HERE, Folder, Json, Key, Ops
from cea.output import Exit, fail, print_json

if TYPE_CHECKING:
    from gateway.client import Client

app = typer.Typer(help="The bulk-agreement desk.", no_args_is_help=True, rich_markup_mode="rich")

Price = Annotated[str, typer.Argument(help="CNY per tonne, such as 55.00.")]
Quantity = Annotated[int, typer.Argument(help="Tonnes, at least 100,000.")]
Note = Annotated[str, typer.Option(help="Other terms, in a sentence.")]
Thread = Annotated[int, typer.Argument(help="Number of the dialogue.")]
Declaration = Annotated[int, typer.Argument(help="Number of the declaration.")]


Until = Annotated[
    str, typer.Option("--valid-until", help="Time today, such as 14:30; otherwise 15:00.", metavar="TIME")
]


def send(folder: Path, who: str, message: Any, as_json: bool, *, ops: bool = False) -> None:
    """Sends one command to the exchange and tells what came of it."""
    with operator(folder, who) if ops else member(folder, who) as client:
        outcome = client.execute(message)
    tell(outcome.data, as_json)


def tell(data: dict[str, Any], as_json: bool) -> None:
    """What a command gave back, money as CNY."""
    from engine.prices import format_amount

    if as_json:
        print_json(data)
        return
    words = []
    for name, value in data.items():
        if name == "locked_fen":
            words += [f"locked {format_amount(value)} CNY"] if value else []
        elif name == "locked_t":
            words += [f"locked {value:,} t"] if value else []
        else:
            words.append(f"{name.replace('_', ' ')} {value}")
    print(f"done{': ' if words else ''}{', '.join(words)}")


def time_today(client: Client, text: str) -> int:
    """A time of the exchange's day in ns UTC; 0 for no text."""
    from engine.calendar import day_start_ns, parse_clock

    if not text:
        return 0
    try:
        return day_start_ns(int(client.link.query("time")["date"])) + parse_clock(text)
    except ValueError as error:
        fail(str(error), Exit.USAGE)


@app.command()
def declare(
    side: Annotated[str, typer.Argument(help="buy or sell")],
    code: Annotated[str, typer.Argument(help="Vintage, such as CEA24.")],
    price: Price,
    quantity: Quantity,
    partial: Annotated[
        bool, typer.Option("--partial/--all-or-none", help="Whether parts of 100,000 t or more may be dealt.")
    ] = False,
    to: Annotated[list[int] | None, typer.Option(help="Only to this account; may be given several times.")] = None,
    group: Annotated[int, typer.Option(min=0, help="Only to the accounts of this group of the operators'.")] = 0,
    valid_until: Until = "",
    note: Note = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Declare a wish to buy or sell: cea bulk declare sell CEA24 55.00 120000 --to 2

    It binds its maker and locks in full until it is withdrawn, dealt or expired. Without --to and --group everybody
    sees it. Exit code 1 when the exchange refuses it, with the reject code and its reason.
    """
    from engine.bulk_messages import BulkDeclare
    from engine.records import BUY, SELL

    if side not in ("buy", "sell"):
        fail(f"side {side!r}: expected buy or sell", Exit.USAGE)
    fen = parsed_price(price)
    with member(folder, who) as client:
        message = BulkDeclare(
            side=BUY if side == "buy" else SELL,
            instrument=code.upper(),
            price=fen,
            quantity=quantity,
            partial=partial,
            to=tuple(to or ()),
            group=group,
            note=note,
            valid_until=time_today(client, valid_until),
        )
        outcome = client.execute(message)
    tell(outcome.data, as_json)


@app.command()
def amend(
    declaration: Declaration,
    price: Price,
    quantity: Annotated[int, typer.Argument(help="New total in tonnes; what has dealt is included.")],
    valid_until: Until = "",
    note: Note = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Give an own declaration new terms. Takes of the old ones end, and dialogues that no longer fit."""
    from engine.bulk_messages import BulkAmend

    fen = parsed_price(price)
    with member(folder, who) as client:
        until = time_today(client, valid_until)
        outcome = client.execute(
            BulkAmend(declaration=declaration, price=fen, quantity=quantity, note=note, valid_until=until)
        )
    tell(outcome.data, as_json)


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
    note: Note = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Accept a declaration as it stands; its maker's confirmation makes the deal."""
    from engine.bulk_messages import BulkTake

    message = BulkTake(declaration=declaration, price=parsed_price(price), quantity=quantity, note=note)
    send(folder, who, message, as_json)


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


# --- operators ---------------------------------------------------------------------------------------------------


@app.command()
def freeze(
    declaration: Annotated[int, typer.Argument(help="Number of the declaration; 0: the whole desk.")] = 0,
    why: Annotated[str, typer.Option(help="The reason; public where the whole desk is frozen.")] = "",
    thaw: Annotated[bool, typer.Option("--thaw", help="The reverse.")] = False,
    folder: Folder = HERE,
    who: Ops = "ops1",
    as_json: Json = False,
) -> None:
    """Operator: freeze a declaration or the desk. Nobody can bind himself then; ways out stay open (D22)."""
    from engine.bulk_messages import BulkFreeze

    send(folder, who, BulkFreeze(on=not thaw, declaration=declaration, by=who, why=why), as_json, ops=True)


@app.command()
def cancel(
    declaration: Annotated[int, typer.Option(help="Number of the declaration to end, with its dialogues.")] = 0,
    thread: Annotated[int, typer.Option(help="Number of the one dialogue to end.")] = 0,
    why: Annotated[str, typer.Option(help="The reason, for the audit.")] = "",
    folder: Folder = HERE,
    who: Ops = "ops1",
    as_json: Json = False,
) -> None:
    """Operator: end a declaration with its dialogues, or one dialogue. Every lock of it is released."""
    from engine.bulk_messages import BulkCancel

    if bool(declaration) == bool(thread):
        fail("name either --declaration or --thread", Exit.USAGE)
    message = BulkCancel(declaration=declaration, thread=thread, by=who, why=why)
    send(folder, who, message, as_json, ops=True)


# --- looking in --------------------------------------------------------------------------------------------------


@app.command("ls")
def list_command(
    day: Annotated[
        bool, typer.Option("--day", help="All of today as it last stood, what has ended and deals too.")
    ] = False,
    all_of_it: Annotated[bool, typer.Option("--operator", help="All that is open, with an operator's key.")] = False,
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """What is open for this member: declarations that it may answer, its own, and its dialogues."""
    if day:
        shown = today(folder, who)
    else:
        with operator(folder, who or "ops1") if all_of_it else member(folder, who) as client:
            shown = open_business(client)
    if as_json:
        print_json(shown)
        return
    for n in shown:
        print(line(n))
    if not shown:
        print("nothing today" if day else "nothing is open")


@app.command()
def view(
    declaration: Declaration,
    all_of_it: Annotated[bool, typer.Option("--operator", help="With an operator's key: every dialogue.")] = False,
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """An open declaration with its dialogues, step by step."""
    from engine.calendar import format_time
    from engine.prices import format_price

    with operator(folder, who or "ops1") if all_of_it else member(folder, who) as client:
        found = [n for n in open_business(client) if n["declaration"] == declaration]
    if not found:
        fail(f"declaration {declaration}: not open for you; `cea bulk ls --day` shows what has ended", Exit.NO)
    if as_json:
        print_json(found)
        return
    for n in found:
        print(line(n))
        for s in n.get("steps", ()):
            terms = f"{s['quantity']:,} t at {format_price(s['price'])}"
            print(f"    {format_time(s['time_ns'])[:8]}  {s['event']:15} {terms}  {s['note']}".rstrip())


def open_business(client: Client) -> list[dict[str, Any]]:
    """Every page of the query `desk`: declarations, then dialogues with their steps."""
    declarations: list[dict[str, Any]] = []
    threads: list[dict[str, Any]] = []
    first = 0
    while True:
        page = client.link.query("desk", first=first)
        declarations += page["declarations"]
        threads += page["threads"]
        first = page["next"]
        if not first:
            return declarations + threads


def today(folder: Path, who: str) -> list[dict[str, Any]]:
    """What the desk has told a member today, each declaration, dialogue and deal as it last stood."""
    names = {"bulk_declaration": "declaration", "bulk_thread": "thread", "bulk_deal": "number"}
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    with member(folder, who) as client:
        client.sync()
        for report in client.poll():
            notice = report.notice or {}
            if notice.get("t") in names:
                latest[notice["t"], notice[names[notice["t"]]]] = notice
    return [notice for _, notice in sorted(latest.items())]


def line(n: dict[str, Any]) -> str:
    """A declaration, dialogue or deal on one line."""
    from engine.prices import format_price

    kind = n["t"].removeprefix("bulk_").removesuffix("_view")
    number = n[{"deal": "number"}.get(kind, kind)]
    what = f"{n['quantity']:,} t at {format_price(n['price'])}"
    if "side" in n:
        what = f"{'sell' if n['side'] else 'buy'} {n['instrument']} {what}"
    who = f"maker {n['maker']}" if "maker" in n else f"with {n['counterparty']}"
    who += f", taker {n['taker']}" if "taker" in n else ""
    part = ", in parts" if n.get("partial") else ""
    of = f" of {n['declaration']}" if kind != "declaration" else ""
    return f"{kind:12} {number:>5}{of}  {n.get('state', 'deal'):14} {what}{part}  ({who})  {n.get('note', '')}".rstrip()
