"""Registry against exchange, to the tonne and the fen. A difference names account, asset and both figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, select

from settlement import schema, store
from settlement.exchange_port import ExchangeBalance
from settlement.kinds import CASH, CNY, SYSTEM, TRADING
from settlement.states import DealState


@dataclass(frozen=True, slots=True)
class Difference:
    """One balance on which the two sides differ. ``because``: what is known to explain it, or empty."""

    account: int
    asset: str
    registry: int
    exchange: int
    because: str = ""

    def __str__(self) -> str:
        unit = "fen" if self.asset == CNY else "t"
        known = f" ({self.because})" if self.because else ""
        figures = f"registry {self.registry} {unit}, exchange {self.exchange} {unit}"
        return f"account {self.account} {self.asset}: {figures}{known}"


def reconcile(engine: Engine, exchange: Iterable[ExchangeBalance]) -> list[Difference]:
    """Every difference between the registry's trading and cash buckets and the exchange's accounts.

    The exchange's cash is available + locked, its allowances all four buckets (R5.6). A withdrawal that is
    reserved here and already out there counts as out.
    """
    theirs: dict[tuple[int, str], int] = defaultdict(int)
    for balance in exchange:
        theirs[balance.account, CNY] += balance.cash_available + balance.cash_locked
        for code, buckets in balance.holdings.items():
            theirs[balance.account, code] += sum(buckets)
    table, deal, held = schema.ledger_account, schema.deal, schema.held_deal
    ours: dict[tuple[int, str], int] = {}
    because: dict[tuple[int, str], list[str]] = defaultdict(list)
    with store.reading(engine) as connection:
        query = select(table).where(table.c.owner != SYSTEM, table.c.bucket.in_((TRADING, CASH)))
        for row in connection.execute(query):
            ours[row.owner, row.asset] = row.credits_posted - row.debits_posted - row.debits_pending
        waiting = (
            select(deal.c.deal_id, deal.c.buyer, deal.c.seller, deal.c.instrument, held.c.state)
            .join(held, held.c.deal_id == deal.c.deal_id)
            .where(held.c.state != DealState.SETTLED.value)
        )
        for row in connection.execute(waiting):
            for account in (row.buyer, row.seller):
                for asset in (row.instrument, CNY):
                    because[account, asset].append(f"deal {row.deal_id} is {row.state}")
    return [
        Difference(*key, ours.get(key, 0), theirs.get(key, 0), "; ".join(because.get(key, ())))
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, 0) != theirs.get(key, 0)
    ]
