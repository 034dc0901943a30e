"""A naive model of the one-way auction (R10): plain dictionaries, nothing remembered that can be worked out anew.

Balances are the start less what deals moved and what is locked, summed over everything after each command. Winners are
found by picking the best bid again and again. It shares no code with the engine.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

MILLION = 1_000_000
OPEN_STAGES = ("applied", "approved", "ready", "announced")


def rounded(value: Fraction) -> int:
    """Half up."""
    return (value + Fraction(1, 2)).__floor__()


class NaiveAuctions:
    """One vintage, one day. Each method answers "ok" or the name of the code; ``now`` is the time."""

    def __init__(self, accounts: int, cash: int, tonnes: int, close: int, ppm: tuple[int, int]) -> None:
        self.cash, self.tonnes, self.ppm, self.close = cash, tonnes, ppm, close
        self.accounts = range(accounts)
        self.now = 0
        self.halted = False
        self.steps = 0
        self.auctions: list[dict[str, Any]] = []
        self.deals: list[tuple[int, int, int, int]] = []  # buyer, seller, price, quantity

    # --- what follows from the history --------------------------------------------------------------------------

    def fee(self, amount: int) -> int:
        return sum(rounded(Fraction(amount * ppm, MILLION)) for ppm in self.ppm)

    def locked_cash(self, account: int) -> int:
        bids = [b for a in self.auctions for b in a["bids"] if a["stage"] == "announced" and b["account"] == account]
        return sum(b["price"] * b["quantity"] + self.fee(b["price"] * b["quantity"]) for b in bids)

    def locked_tonnes(self, account: int) -> int:
        return sum(
            a["quantity"] for a in self.auctions if a["stage"] in ("ready", "announced") and a["seller"] == account
        )

    def available(self, account: int) -> int:
        paid = sum(p * q + self.fee(p * q) for buyer, _, p, q in self.deals if buyer == account)
        got = sum(p * q - min(p * q, self.fee(p * q)) for _, seller, p, q in self.deals if seller == account)
        return self.cash - paid + got - self.locked_cash(account)

    def bought(self, account: int) -> int:
        return sum(q for buyer, _, _, q in self.deals if buyer == account)

    def sellable(self, account: int) -> int:
        sold = sum(q for _, seller, _, q in self.deals if seller == account)
        return self.tonnes - sold - self.locked_tonnes(account)

    # --- look-ups ----------------------------------------------------------------------------------------------------

    def find(self, number: int) -> dict[str, Any] | None:
        return self.auctions[number - 1] if 0 < number <= len(self.auctions) else None

    def by_operator(self, number: int, wanted: tuple[str, ...], to: str) -> str:
        found = self.find(number)
        if found is None:
            return "UNKNOWN_AUCTION"
        if found["stage"] not in wanted:
            return "WRONG_STATE"
        found["stage"] = to
        return "ok"

    def of_seller(self, number: int, account: int | None) -> str:
        """Why a seller's command is refused before its stage is looked at; empty when it is not."""
        found = self.find(number)
        if found is None:
            return "UNKNOWN_AUCTION"
        if account is None or (account == found["seller"] and found["stage"] in OPEN_STAGES):
            return "" if found["stage"] in OPEN_STAGES else "WRONG_STATE"
        return "NOT_AUTHORISED" if found["stage"] == "announced" else "UNKNOWN_AUCTION"

    # --- commands --------------------------------------------------------------------------------------------------

    def apply(self, seller: int, quantity: int, mode: str, reserve: str) -> str:
        if quantity < 100_000:
            return "AUCTION_QUANTITY"
        if sum(a["seller"] == seller and a["stage"] in OPEN_STAGES for a in self.auctions) >= 20:
            return "LIMIT_REACHED"
        new = {"seller": seller, "quantity": quantity, "mode": mode, "reserve": reserve, "stage": "applied", "bids": []}
        self.auctions.append(new)
        return "ok"

    def answer(self, number: int, approve: bool) -> str:
        return self.by_operator(number, ("applied",), "approved" if approve else "refused")

    def freeze(self, number: int, account: int | None) -> str:
        refusal = self.of_seller(number, account)
        if refusal:
            return refusal
        found = self.auctions[number - 1]
        if found["stage"] != "approved":
            return "WRONG_STATE"
        free = self.sellable(found["seller"])
        if found["quantity"] > free:
            enough = found["quantity"] <= free + self.bought(found["seller"])
            return "BOUGHT_TODAY" if enough else "INSUFFICIENT_ALLOWANCES"
        found["stage"] = "ready"
        return "ok"

    def withdraw(self, number: int, account: int | None) -> str:
        refusal = self.of_seller(number, account)
        if not refusal and self.auctions[number - 1]["stage"] == "announced":
            refusal = "WRONG_STATE"
        if not refusal:
            self.auctions[number - 1]["stage"] = "withdrawn"
        return refusal or "ok"

    def announce(self, number: int, window: tuple[int, int], raises: bool, cancels: bool, bid_min: int) -> str:
        found = self.find(number)
        if found is None:
            return "UNKNOWN_AUCTION"
        if found["stage"] not in OPEN_STAGES:
            return "WRONG_STATE"
        if window[0] < self.now:
            return "BAD_FIELD"
        if found["stage"] != "ready":
            return "WRONG_STATE"
        found |= {"stage": "announced", "window": window, "raises": raises, "cancels": cancels, "min": bid_min}
        return "ok"

    def cancel(self, number: int) -> str:
        return self.by_operator(number, OPEN_STAGES, "cancelled")

    def bidding(self, number: int, binding: bool) -> str:
        found = self.find(number)
        if found is None or found["stage"] != "announced":
            return "AUCTION_CLOSED" if found and found["stage"] in ("dealt", "unsold") else "UNKNOWN_AUCTION"
        if not found["window"][0] <= self.now < found["window"][1]:
            return "AUCTION_CLOSED"
        return "MARKET_HALTED" if binding and self.halted else ""

    def terms(self, found: dict[str, Any], price: int, quantity: int) -> str:
        low = self.close if found["reserve"] == "previous_close" else rounded(Fraction(self.close * 9, 10))
        if not found["min"] <= quantity <= found["quantity"]:
            return "AUCTION_QUANTITY"
        return "" if low <= price <= rounded(Fraction(self.close * 11, 10)) else "AUCTION_PRICE_OUT_OF_BAND"

    def bid(self, number: int, account: int, price: int, quantity: int) -> str:
        refusal = self.bidding(number, True)
        if refusal:
            return refusal
        found = self.auctions[number - 1]
        if account == found["seller"]:
            return "SELF_DEAL"
        refusal = self.terms(found, price, quantity)
        if refusal:
            return refusal
        if price * quantity + self.fee(price * quantity) > self.available(account):
            return "INSUFFICIENT_CASH"
        self.steps += 1
        found["count"] = found.get("count", 0) + 1
        new = {"number": found["count"], "account": account, "price": price, "quantity": quantity, "time": self.steps}
        found["bids"].append(new)
        return "ok"

    def own(self, number: int, bid: int, account: int) -> dict[str, Any] | None:
        mine = (b for b in self.auctions[number - 1]["bids"] if b["number"] == bid and b["account"] == account)
        return next(mine, None)

    def raise_bid(self, number: int, bid: int, account: int, price: int, quantity: int) -> str:
        refusal = self.bidding(number, True)
        if refusal:
            return refusal
        found, mine = self.auctions[number - 1], self.own(number, bid, account)
        if mine is None:
            return "AUCTION_BID_UNKNOWN"
        if not found["raises"]:
            return "WRONG_STATE"
        before = mine["price"], mine["quantity"]
        if price < before[0] or quantity < before[1] or (price, quantity) == before:
            return "BAD_FIELD"
        refusal = self.terms(found, price, quantity)
        if refusal:
            return refusal
        mine["price"], mine["quantity"] = price, quantity
        if self.available(account) < 0:
            mine["price"], mine["quantity"] = before
            return "INSUFFICIENT_CASH"
        self.steps += 1
        mine["time"] = self.steps
        return "ok"

    def cancel_bid(self, number: int, bid: int, account: int) -> str:
        refusal = self.bidding(number, False)
        if refusal:
            return refusal
        mine = self.own(number, bid, account)
        if mine is None:
            return "AUCTION_BID_UNKNOWN"
        if not self.auctions[number - 1]["cancels"]:
            return "WRONG_STATE"
        self.auctions[number - 1]["bids"].remove(mine)
        return "ok"

    def tick(self) -> str:
        for found in self.auctions:
            if found["stage"] == "announced" and self.now >= found["window"][1] and not self.halted:
                self.hand_out(found)
        return "ok"

    def hand_out(self, found: dict[str, Any]) -> None:
        left, rest, won = found["quantity"], list(found["bids"]), []
        while left and rest:
            best = min(rest, key=lambda b: (-b["price"], b["time"]))
            rest.remove(best)
            won.append((best, min(left, best["quantity"])))
            left -= won[-1][1]
        lowest = won[-1][0]["price"] if won else 0
        for bid, quantity in won:
            price = lowest if found["mode"] == "uniform" else bid["price"]
            self.deals.append((bid["account"], found["seller"], price, quantity))
        found["stage"] = "dealt" if won else "unsold"
