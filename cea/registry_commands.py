"""`cea registry …` through a running exchange: money and transfers in and out (D23, D24), the check before the open.

The other commands of `cea registry` are :mod:`settlement.commands`; these need the operator plane as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cea.output import Exit, fail, print_json
from settlement.command_line import Account, Asset, Csv, Document, Json, Quantity
from settlement.commands import app

if TYPE_CHECKING:
    from settlement.base import Posted
    from settlement.bridge import Bridge
    from settlement.errors import Refused

__all__ = ["app"]

Folder = Annotated[Path, typer.Option("--market", "-m", envvar="CEA_MARKET", help="The market folder.", metavar="DIR")]
Cash = Annotated[str, typer.Argument(help="CNY, such as 1000000.00.")]
HERE = Path("market")
# 10^15 fen, the registry's own limit, has 13 digits of yuan.
_YUAN_DIGITS_MAX = 13


class BankByHand:
    """The bank port where a person has the bank's answer: paid under a number, refused, or not known yet."""

    def __init__(self, paid: str, refused: str) -> None:
        self.paid, self.refused = paid, refused

    def pay(self, account: int, amount_fen: int, document: str) -> str | Refused | None:
        """The person's word; None while there is none."""
        from settlement.errors import WRONG_STATE, Refused

        if self.refused:
            return Refused(WRONG_STATE, "bank", self.refused)
        return self.paid or None


def parsed_fen(text: str) -> int:
    """Fen from CNY with at most two decimals; ends the command where it is not that."""
    yuan, _, cents = text.replace(",", "").partition(".")
    plain = yuan.isascii() and yuan.isdigit() and len(yuan) <= _YUAN_DIGITS_MAX
    if not plain or len(cents) > 2 or (cents and not (cents.isascii() and cents.isdigit())):
        fail(f"amount: {text!r} is not an amount in CNY with at most two decimals", Exit.USAGE)
    return int(yuan) * 100 + int(cents.ljust(2, "0"))


@contextmanager
def bridge(folder: Path, bank: BankByHand | None = None) -> Iterator[tuple[Bridge, int]]:
    """The bridge between the market's registry and its running exchange, and the exchange's date."""
    from cea.connecting import operator
    from cea.folder import open_registry
    from cea.remote_exchange import RemoteExchange
    from cea.replaying import load_market
    from settlement.bridge import Bridge

    with operator(folder, "settlement") as client:
        registry = open_registry(load_market(folder), hours=True)
        try:
            found = Bridge(registry, RemoteExchange(client), lambda: int(client.time()["time_ns"]), bank)
            yield found, int(client.time()["date"])
        finally:
            registry.close()


def _told(act: Callable[[Bridge], Posted | Refused | None], folder: Path, as_json: bool, bank: Any = None) -> None:
    """Do an act, then say what came of it: 0 done, 1 refused, 4 nobody has answered yet."""
    from settlement.errors import Refused

    with bridge(folder, bank) as (found, _):
        result = act(found)
        waiting = found.resume()
    if isinstance(result, Refused):
        fail(f"refused: {result}", Exit.NO)
    if result is None or waiting:
        fail("no answer yet: repeat the same command, nothing happens twice", Exit.UNREACHABLE)
    if as_json:
        print_json({"done": True, "document": result.document, "repeated": result.repeated})
    else:
        print(f"{result.document}: {'was done before, nothing changed' if result.repeated else 'done'}")


@app.command("deposit")
def deposit(account: Account, amount: Cash, document: Document, folder: Folder = HERE, as_json: Json = False) -> None:
    """Book money that has arrived at the bank; it is usable at the exchange at once (D23)."""
    fen = parsed_fen(amount)
    _told(lambda found: found.deposit(account, fen, document), folder, as_json)


@app.command("withdraw")
def withdraw(
    account: Account,
    amount: Cash,
    document: Document,
    paid: Annotated[str, typer.Option(help="The bank's number: it has paid.")] = "",
    refused: Annotated[str, typer.Option(help="The bank's reason: it has refused.")] = "",
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Money back to a trader: reserved here, taken out at the exchange; then again with --paid or --refused (D23)."""
    fen = parsed_fen(amount)
    _told(lambda found: found.withdraw(account, fen, document), folder, as_json, BankByHand(paid, refused))


@app.command("transfer-in")
def transfer_in(
    account: Account, asset: Asset, quantity: Quantity, document: Document, folder: Folder = HERE, as_json: Json = False
) -> None:
    """转入: from the registry account to the trading account, sellable at once (R13.2)."""
    _told(lambda found: found.move_in(account, asset, quantity, document), folder, as_json)


@app.command("transfer-out")
def transfer_out(
    account: Account, asset: Asset, quantity: Quantity, document: Document, folder: Folder = HERE, as_json: Json = False
) -> None:
    """转出: back to the registry account, only what is free in trading (R13.2)."""
    _told(lambda found: found.transfer_out(account, asset, quantity, document), folder, as_json)


@app.command("repay")
def repay(account: Account, amount: Cash, document: Document, folder: Folder = HERE, as_json: Json = False) -> None:
    """A trader pays back what the risk reserve has paid for it (R12.5); taken out at the exchange, too."""
    fen = parsed_fen(amount)
    _told(lambda found: found.repay(account, fen, document), folder, as_json)


By = Annotated[str, typer.Option(help="Who decided.")]


@app.command("release-day")
def release_day(
    date: Annotated[int, typer.Argument(help="The settled day, YYYYMMDD.")],
    document: Document,
    by: By,
    why: Annotated[str, typer.Option(help="The reason.")],
    folder: Folder = HERE,
) -> None:
    """An operator lets the next day open in spite of held deals or differences (D26)."""
    from settlement.errors import Refused

    with bridge(folder) as (found, _):
        result = found.release(date, document, by, why)
    if isinstance(result, Refused):
        fail(f"refused: {result}", Exit.NO)
    print(f"{date}: {result.state}")


@app.command("adopt")
def adopt(document: Document, by: By, folder: Folder = HERE, as_json: Json = False) -> None:
    """Make the exchange's accounts the registry's balances, before the open: the registry is right (R13.1)."""
    from settlement.errors import Refused

    with bridge(folder) as (found, date):
        now = found.exchange.client.time()  # type: ignore[attr-defined]
        if now["time_ns"] >= now["boundaries"][0] and not now["day_closed"]:
            fail(f"{date} has opened: during trading the two sides differ by the day's deals", Exit.NO)
        left = found.adopt(date, document, by)
    if isinstance(left, Refused):
        fail(f"refused: {left}", Exit.NO)
    if as_json:
        print_json({"date": date, "differences": [str(one) for one in left]})
    else:
        print("\n".join(map(str, left)) or f"{date}: the exchange's accounts are the registry's balances")
    if left:
        raise typer.Exit(Exit.NO)


@app.command("at-risk")
def at_risk(
    year: Annotated[int, typer.Argument(help="The compliance year.")],
    folder: Folder = HERE,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Early warning with what the entities' open orders and offers at the running exchange would sell (R13.4)."""
    from settlement.compliance_commands import print_warnings

    with bridge(folder) as (found, date):
        sells = {
            (balance.account, code): locked
            for balance in found.exchange.balances()
            for code, (_, _, locked, _) in balance.holdings.items()
            if locked
        }
        print_warnings(found.registry.warnings(year, date, sells), as_json, as_csv)


@app.command("check-open")
def check_open(folder: Folder = HERE, as_json: Json = False) -> None:
    """Before the open: earlier days settled, every balance at the exchange equal to the registry's; 1 where not."""
    from settlement.errors import Refused

    with bridge(folder) as (found, date):
        differences = found.check_open(date)
    if isinstance(differences, Refused):
        fail(str(differences), Exit.NO)
    if as_json:
        print_json({"date": date, "differences": [str(d) for d in differences]})
    else:
        print("\n".join(map(str, differences)) or f"{date}: the exchange's accounts are the registry's balances")
    if differences:
        raise typer.Exit(Exit.NO)
