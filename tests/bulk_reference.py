"""A naive model of the bulk desk: plain dictionaries, locks summed anew each time, every command tried on a copy.

Nothing of engine/bulk is used. A dialogue is told by two facts, who made the offer that is on the table (``D``: it
is the declaration's own) and whether it has been accepted; everything else follows from them (R9, D21). A command
is carried out on a copy of everything; if somebody's free cash or allowances are then below zero, the copy is
thrown away.
"""

from __future__ import annotations

import copy
from typing import Any

MINIMUM = 100_000
MAKER, TAKER, DECLARED = "M", "T", "D"


class Refuse(Exception):
    """The command is refused; args[0] is the code's name."""


def fee(amount: int, ppm: int) -> int:
    return (2 * amount * ppm + 1_000_000) // 2_000_000


class NaiveDesk:
    """accounts: number → dict(cash, sellable {instrument: t}, bought {instrument: t})."""

    def __init__(self, accounts: int, cash: int, tonnes: int, band: tuple[int, int], ppm: tuple[int, int]) -> None:
        self.band, self.ppm = band, ppm
        self.book: dict[int, dict[str, Any]] = {
            a: {"cash": cash, "tonnes": tonnes, "bought": 0} for a in range(accounts)
        }
        self.declared: dict[int, dict[str, Any]] = {}
        self.talks: dict[int, dict[str, Any]] = {}
        self.fees_collected = 0
        self.next_declared = self.next_talk = 1
        self.deals: list[tuple[int, int, int, int]] = []  # price, quantity, buyer, seller
        self.frozen = False

    # --- what is locked, from scratch ---------------------------------------------------------------------------

    def cost(self, amount: int) -> int:
        return amount + fee(amount, self.ppm[0]) + fee(amount, self.ppm[1])

    def maker_price(self, d: dict[str, Any]) -> int:
        """The highest price that the maker is bound to."""
        bound = [t["price"] for t in self.talks.values() if t["declared"] == d["number"] and self.maker_bound(t)]
        return max([d["price"], *bound])

    @staticmethod
    def maker_bound(t: dict[str, Any]) -> bool:
        return t["by"] == MAKER or (t["by"] == TAKER and t["accepted"])

    @staticmethod
    def taker_bound(t: dict[str, Any]) -> bool:
        return t["by"] == TAKER or t["accepted"]

    def locked(self, account: int) -> tuple[int, int]:
        """Cash and allowances that are locked for an account."""
        cash = tonnes = 0
        for d in self.declared.values():
            if d["maker"] == account:
                if d["side"] == "buy":
                    cash += self.cost(self.maker_price(d) * d["left"])
                    deals = max(1, d["left"] // MINIMUM) if d["partial"] else 1
                    cash += 2 * (deals - 1) if any(self.ppm) else 0
                else:
                    tonnes += d["left"]
        for t in self.talks.values():
            if t["taker"] == account and self.taker_bound(t):
                if self.declared[t["declared"]]["side"] == "sell":
                    cash += self.cost(t["price"] * t["quantity"])
                else:
                    tonnes += t["quantity"]
        return cash, tonnes

    def balances(self, account: int) -> tuple[int, int, int, int, int]:
        """Available, locked cash; sellable, bought today, locked tonnes."""
        cash, tonnes = self.locked(account)
        b = self.book[account]
        return b["cash"] - cash, cash, b["tonnes"] - tonnes, b["bought"], tonnes

    # --- one command ---------------------------------------------------------------------------------------------

    def run(self, name: str, *args: Any) -> str:
        """Carries out a command; "ok" or the refusal's code name."""
        before = copy.deepcopy(self.__dict__)
        try:
            getattr(self, name)(*args)
            for account in self.book:
                available, _, sellable, bought, _ = self.balances(account)
                if available < 0:
                    raise Refuse("INSUFFICIENT_CASH")
                if sellable < 0:
                    raise Refuse("BOUGHT_TODAY" if sellable + bought >= 0 else "INSUFFICIENT_ALLOWANCES")
        except Refuse as refusal:
            self.__dict__.update(before)
            return str(refusal.args[0])
        return "ok"

    def declare(self, maker: int, side: str, price: int, quantity: int, partial: bool, to: tuple[int, ...]) -> None:
        self.must_be_thawed()
        if maker in to:
            raise Refuse("SELF_DEAL")
        self.check_terms(price, quantity)
        number = self.next_declared
        self.next_declared += 1
        self.declared[number] = {
            "number": number,
            "maker": maker,
            "side": side,
            "price": price,
            "left": quantity,
            "dealt": 0,
            "partial": partial,
            "to": to,
            "frozen": False,
        }

    def amend(self, who: int, number: int, price: int, quantity: int) -> None:
        d = self.known(who, number)
        if d["maker"] != who:
            raise Refuse("NOT_AUTHORISED")
        self.must_be_thawed(d)
        self.check_terms(price, quantity - d["dealt"])
        d["price"], d["left"] = price, quantity - d["dealt"]
        self.talks = {
            k: t for k, t in self.talks.items() if t["declared"] != number or (t["by"] != DECLARED and self.fits(d, t))
        }

    def withdraw(self, who: int, number: int) -> None:
        d = self.known(who, number)
        if d["maker"] != who:
            raise Refuse("NOT_AUTHORISED")
        self.drop(number)

    def open(self, who: int, number: int, price: int, quantity: int, take: bool) -> None:
        d = self.known(who, number)
        if d["maker"] == who:
            raise Refuse("SELF_DEAL")
        if take and price != d["price"]:
            raise Refuse("BULK_TERMS_CHANGED")
        self.must_be_thawed(d)
        if any(t["declared"] == number and t["taker"] == who for t in self.talks.values()):
            raise Refuse("ALREADY_EXISTS")
        if not self.fits(d, {"quantity": quantity}):
            raise Refuse("BULK_TERMS_CHANGED" if take else "BAD_FIELD")
        self.check_terms(price, quantity)
        by = DECLARED if take else TAKER
        self.talks[self.next_talk] = {
            "declared": number,
            "taker": who,
            "price": price,
            "quantity": quantity,
            "by": by,
            "accepted": take,
        }
        self.next_talk += 1

    def counter(self, who: int, number: int, price: int, quantity: int) -> None:
        t, role = self.talk(who, number)
        if t["accepted"] or t["by"] == role:
            raise Refuse("WRONG_STATE")
        d = self.declared[t["declared"]]
        self.must_be_thawed(d)
        if not self.fits(d, {"quantity": quantity}):
            raise Refuse("BAD_FIELD")
        self.check_terms(price, quantity)
        t.update(price=price, quantity=quantity, by=role)

    def accept(self, who: int, number: int, price: int, quantity: int) -> None:
        t, role = self.talk(who, number)
        if t["accepted"] or t["by"] == role:
            raise Refuse("WRONG_STATE")
        self.same_terms(t, price, quantity)
        t["accepted"] = True

    def confirm(self, who: int, number: int, price: int, quantity: int) -> None:
        t, role = self.talk(who, number)
        if not t["accepted"] or self.to_confirm(t) != role:
            raise Refuse("WRONG_STATE")
        self.same_terms(t, price, quantity)
        d, amount = self.declared[t["declared"]], price * quantity
        buyer, seller = (d["maker"], t["taker"]) if d["side"] == "buy" else (t["taker"], d["maker"])
        each = self.cost(amount) - amount
        self.book[buyer]["cash"] -= amount + each
        self.book[buyer]["bought"] += quantity
        self.book[seller]["cash"] += amount - min(each, amount)
        self.book[seller]["tonnes"] -= quantity
        self.fees_collected += each + min(each, amount)
        self.deals.append((price, quantity, buyer, seller))
        d["left"] -= quantity
        d["dealt"] += quantity
        del self.talks[number]
        if not d["partial"] or d["left"] < MINIMUM:
            self.drop(d["number"])
        else:
            self.talks = {k: x for k, x in self.talks.items() if x["declared"] != d["number"] or self.fits(d, x)}

    def refuse(self, who: int, number: int) -> None:
        t, role = self.talk(who, number)
        if (self.to_confirm(t) if t["accepted"] else self.to_answer(t)) != role:
            raise Refuse("WRONG_STATE")
        del self.talks[number]

    def retract(self, who: int, number: int) -> None:
        t, role = self.talk(who, number)
        if (self.to_confirm(t) if t["accepted"] else self.to_answer(t)) == role:
            raise Refuse("WRONG_STATE")
        del self.talks[number]

    def freeze(self, number: int, on: bool) -> None:
        if number == 0:
            if self.frozen == on:
                raise Refuse("WRONG_STATE")
            self.frozen = on
            return
        if number not in self.declared:
            raise Refuse("WRONG_STATE" if number < self.next_declared else "UNKNOWN_DECLARATION")
        if self.declared[number]["frozen"] == on:
            raise Refuse("WRONG_STATE")
        self.declared[number]["frozen"] = on

    def cancel_talk(self, number: int) -> None:
        if number not in self.talks:
            raise Refuse("UNKNOWN_THREAD")
        del self.talks[number]

    # --- rules -----------------------------------------------------------------------------------------------------

    @staticmethod
    def to_answer(t: dict[str, Any]) -> str:
        return MAKER if t["by"] == TAKER else TAKER

    @staticmethod
    def to_confirm(t: dict[str, Any]) -> str:
        """Whose offer was accepted confirms; the declaration is its maker's."""
        return TAKER if t["by"] == TAKER else MAKER

    @staticmethod
    def fits(d: dict[str, Any], t: dict[str, Any]) -> bool:
        return t["quantity"] <= d["left"] if d["partial"] else t["quantity"] == d["left"]

    def must_be_thawed(self, d: dict[str, Any] | None = None) -> None:
        if self.frozen or (d is not None and d["frozen"]):
            raise Refuse("BULK_FROZEN")

    def check_terms(self, price: int, quantity: int) -> None:
        if quantity < MINIMUM:
            raise Refuse("BULK_QUANTITY_TOO_SMALL")
        if not self.band[0] <= price <= self.band[1]:
            raise Refuse("BULK_PRICE_OUT_OF_BAND")

    def same_terms(self, t: dict[str, Any], price: int, quantity: int) -> None:
        self.must_be_thawed(self.declared[t["declared"]])
        if (price, quantity) != (t["price"], t["quantity"]):
            raise Refuse("BULK_TERMS_CHANGED")

    def known(self, who: int, number: int) -> dict[str, Any]:
        d = self.declared.get(number)
        if d is None:
            was = self.gone.get(number)
            raise Refuse("WRONG_STATE" if was and (was["maker"] == who or not was["to"]) else "UNKNOWN_DECLARATION")
        if d["maker"] != who and d["to"] and who not in d["to"]:
            raise Refuse("UNKNOWN_DECLARATION")
        return d

    def talk(self, who: int, number: int) -> tuple[dict[str, Any], str]:
        t = self.talks.get(number)
        if t is None:
            raise Refuse("GONE")  # WRONG_STATE for its parties, UNKNOWN_THREAD for others: told apart elsewhere
        maker = self.declared[t["declared"]]["maker"]
        if who not in (maker, t["taker"]):
            raise Refuse("UNKNOWN_THREAD")
        return t, MAKER if who == maker else TAKER

    @property
    def gone(self) -> dict[int, dict[str, Any]]:
        return self.__dict__.setdefault("_gone", {})

    def drop(self, number: int) -> None:
        """The declaration ends, with its dialogues."""
        self.gone[number] = self.declared.pop(number)
        self.talks = {k: t for k, t in self.talks.items() if t["declared"] != number}
