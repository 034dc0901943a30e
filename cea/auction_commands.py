"""`cea auction …`: the one-way auction from the command line (R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cea.bulk_commands import send, tell
from cea.connecting import member, operator
from cea.member_commands import parsed_price
from cea.options import HERE, Folder, Json, Key, Ops
from cea.output import Exit, fail, print_json

if TYPE_CHECKING:
    from gateway.client import Client

app = typer.Typer(help="The one-way auction.", no_args_is_help=True, rich_markup_mode="rich")

Auction = Annotated[int, typer.Argument(help="Number of the auction.")]
Bid = Annotated[int, typer.Argument(help="Number of the bid.")]
Price = Annotated[str, typer.Argument(help="CNY per tonne, such as 74.50.")]
Quantity = Annotated[int, typer.Argument(help="Tonnes.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit.")]
ForSeller = Annotated[bool, typer.Option("--operator", help="As the operator, for an authority that sells.")]
MODES = ("uniform", "pay_as_bid")
RESERVES = ("previous_close", "minus_10")


# --- the seller ------------------------------------------------------------------------------------------------


@app.command("apply")
def apply_command(
    code: Annotated[str, typer.Argument(help="Vintage, such as CEA24.")],
    quantity: Quantity,
    date: Annotated[int, typer.Argument(help="Day of the auction, YYYYMMDD, 10 working days ahead.")],
    mode: Annotated[str, typer.Option(help="uniform · pay_as_bid")] = "uniform",
    reserve: Annotated[str, typer.Option(help="previous_close · minus_10 (that close less 10 %)")] = "previous_close",
    seller: Annotated[int, typer.Option(min=-1, help="Operator, for an authority: the selling account.")] = -1,
    waive: Annotated[bool, typer.Option("--waive", help="Operator: without the notice periods; say why.")] = False,
    why: Why = "",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Apply for an auction: cea auction apply CEA24 200000 20251222 --mode pay_as_bid

    With --seller the operator applies for an authority (government paid allocation); --waive leaves the notice periods
    out. Then the exchange answers, the seller freezes its allowances, and the exchange announces the window.
    """
    from engine.auction_messages import AuctionApply

    for name, value, allowed in (("mode", mode, MODES), ("reserve", reserve, RESERVES)):
        if value not in allowed:
            fail(f"{name} {value!r}: expected {' or '.join(allowed)}", Exit.USAGE)
    if waive and seller < 0:
        fail("--waive is the operator's: name the --seller too", Exit.USAGE)
    if waive and not why:
        fail("--waive needs a reason: --why", Exit.USAGE)
    ops = seller >= 0
    key = who or ("ops1" if ops else "")
    message = AuctionApply(
        instrument=code.upper(),
        quantity=quantity,
        date=date,
        mode=mode,  # type: ignore[arg-type]
        reserve=reserve,  # type: ignore[arg-type]
        seller=seller if ops else None,
        waive=waive,
        by=key if ops else "",
        why=why,
    )
    send(folder, key, message, as_json, ops=ops)


@app.command()
def freeze(
    auction: Auction, ops: ForSeller = False, folder: Folder = HERE, who: Key = "", as_json: Json = False
) -> None:
    """Seller: put the allowances in place. They are frozen until the auction is over."""
    from engine.auction_messages import AuctionFreeze

    send(folder, who or ("ops1" if ops else ""), AuctionFreeze(auction=auction), as_json, ops=ops)


@app.command()
def withdraw(
    auction: Auction, ops: ForSeller = False, folder: Folder = HERE, who: Key = "", as_json: Json = False
) -> None:
    """Seller: take the application back, as long as the auction is not announced. Allowances are released."""
    from engine.auction_messages import AuctionWithdraw

    send(folder, who or ("ops1" if ops else ""), AuctionWithdraw(auction=auction), as_json, ops=ops)


# --- bidders -----------------------------------------------------------------------------------------------------


@app.command()
def bid(
    auction: Auction, price: Price, quantity: Quantity, folder: Folder = HERE, who: Key = "", as_json: Json = False
) -> None:
    """Place a sealed bid in the window: cea auction bid 1 74.50 30000

    Cash is locked in full. Until the close nobody but the operators learns of it.
    """
    from engine.auction_messages import AuctionBid

    send(folder, who, AuctionBid(auction=auction, price=parsed_price(price), quantity=quantity), as_json)


@app.command("raise")
def raise_command(
    auction: Auction,
    number: Bid,
    price: Price,
    quantity: Quantity,
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Raise an own bid: neither price nor quantity falls, one rises. Its time is then that of the raise."""
    from engine.auction_messages import AuctionRaise

    message = AuctionRaise(auction=auction, bid=number, price=parsed_price(price), quantity=quantity)
    send(folder, who, message, as_json)


@app.command("cancel-bid")
def cancel_bid(auction: Auction, number: Bid, folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """Take an own bid back in the window, where the announcement allows it. Its cash is released."""
    from engine.auction_messages import AuctionCancelBid

    send(folder, who, AuctionCancelBid(auction=auction, bid=number), as_json)


# --- operators -----------------------------------------------------------------------------------------------------


@app.command()
def answer(
    auction: Auction,
    approve: Annotated[bool, typer.Option("--approve/--refuse", help="What the exchange answers.")] = True,
    why: Why = "",
    folder: Folder = HERE,
    who: Ops = "ops1",
    as_json: Json = False,
) -> None:
    """Operator: answer an application, due within 3 working days (R10.4). A late answer counts and is marked."""
    from engine.auction_messages import AuctionAnswer

    send(folder, who, AuctionAnswer(auction=auction, approve=approve, by=who, why=why), as_json, ops=True)


@app.command()
def announce(
    auction: Auction,
    opens: Annotated[str, typer.Argument(help="Begin of the window on the auction's day, 10:00.")],
    closes: Annotated[str, typer.Argument(help="Its end, 10:30.")],
    bid_min: Annotated[int, typer.Option(min=1, help="Smallest bid in tonnes.")] = 1,
    raises: Annotated[bool, typer.Option("--raise/--no-raise", help="Whether bids may be raised.")] = True,
    cancels: Annotated[bool, typer.Option("--cancel/--no-cancel", help="Whether bids may be cancelled.")] = False,
    why: Why = "",
    folder: Folder = HERE,
    who: Ops = "ops1",
    as_json: Json = False,
) -> None:
    """Operator: announce the bidding window to everybody: cea auction announce 1 10:00 10:30"""
    from engine.auction_messages import AuctionAnnounce
    from engine.calendar import day_start_ns, parse_clock

    try:
        window = parse_clock(opens), parse_clock(closes)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    with operator(folder, who) as client:
        known = {a["auction"]: a["date"] for a in client.link.query("auctions")["auctions"]}
        if auction not in known:
            fail(f"auction {auction}: unknown or over; `cea auction ls --operator` shows what there is", Exit.NO)
        start = day_start_ns(known[auction])
        outcome = client.execute(
            AuctionAnnounce(
                auction=auction,
                opens=start + window[0],
                closes=start + window[1],
                bid_min=bid_min,
                raise_allowed=raises,
                cancel_allowed=cancels,
                by=who,
                why=why,
            )
        )
    tell(outcome.data, as_json)


@app.command()
def allocate(folder: Folder = HERE, who: Ops = "ops1", as_json: Json = False) -> None:
    """Operator: close the windows whose end has passed, allocate, make the deals, release the losers.

    The scheduler does this by itself at the end of each window; here it is done at once, for instance after a halt. A
    window that is still open stays open.
    """
    from engine.auction_messages import AuctionTick

    send(folder, who, AuctionTick(), as_json, ops=True)


@app.command()
def cancel(auction: Auction, why: Why = "", folder: Folder = HERE, who: Ops = "ops1", as_json: Json = False) -> None:
    """Operator: end an auction without deals. The allowances and the cash of every bid are released."""
    from engine.auction_messages import AuctionCancel

    send(folder, who, AuctionCancel(auction=auction, by=who, why=why), as_json, ops=True)


# --- looking in ----------------------------------------------------------------------------------------------------


@app.command("ls")
def list_command(
    auction: Annotated[int, typer.Option(min=0, help="Operator: with the sealed bids of this auction.")] = 0,
    all_of_it: Annotated[bool, typer.Option("--operator", help="All applications, with an operator's key.")] = False,
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """What is open: announced windows, own applications, own bids. Operators see all applications."""
    ops = all_of_it or auction > 0
    with operator(folder, who or "ops1") if ops else member(folder, who) as client:
        shown = open_auctions(client, auction)
    if as_json:
        print_json(shown)
        return
    for n in (*shown["auctions"], *shown["announced"], *shown["bids"]):
        print(line(n))
    if not any(shown.values()):
        print("nothing is open")


def open_auctions(client: Client, auction: int) -> dict[str, list[dict[str, Any]]]:
    """The query `auctions`, every page of bids."""
    found: dict[str, list[dict[str, Any]]] = {}
    first = 0
    while True:
        page = client.link.query("auctions", auction=auction, first=first)
        found = {
            "auctions": page["auctions"],
            "announced": page["announced"],
            "bids": [*found.get("bids", ()), *page["bids"]],
        }
        first = page["next"]
        if not first:
            return found


def line(n: dict[str, Any]) -> str:
    """An application, a window or a bid on one line."""
    from engine.calendar import format_time
    from engine.prices import format_price

    if n["t"] == "auction_bid_state":
        terms = f"{n['quantity']:,} t at {format_price(n['price'])}"
        return f"bid {n['bid']:>5} in auction {n['auction']}  {terms}  (account {n['account']})"
    what = f"{n['instrument']} {n['quantity']:,} t on {n['date']}, {n['mode']}, reserve {n['reserve']}"
    if n["t"] == "auction_announced":
        rules = f"bids from {n['bid_min']:,} t" + (", may be raised" if n["raise_allowed"] else "")
        rules += ", may be cancelled" if n["cancel_allowed"] else ""
        return (
            f"window {n['auction']:>5}  {format_time(n['opens'])[:8]}–{format_time(n['closes'])[:8]}  {what}; {rules}"
        )
    due = {"applied": f"answer by {n['answer_by']}", "approved": f"freeze by {n['freeze_by']}"}.get(n["state"], "")
    return f"auction {n['auction']:>4}  {n['state']:10} {what}  (seller {n['seller']})  {due}".rstrip()
