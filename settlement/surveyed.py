"""What surveillance asks of the registry at the start of a trading day: holdings, and what must be surrendered.

Both are as they were then, whatever has happened since: a replay of an old day must find what was to be found.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from settlement import compliance, schema, store
from settlement.hours import day_bounds_ns
from settlement.kinds import FINAL_BUCKETS, SYSTEM, ActKind, TransferState
from settlement.registry import Registry

COMPLIANCE_ACTS = (ActKind.OBLIGATION, ActKind.SURRENDER, ActKind.FORCED_SURRENDER, ActKind.OFFSET)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Tonnes by account. ``usable``: what is held of ``vintages``, which may be surrendered for ``needs`` (R13.4)."""

    holdings: dict[int, int]
    needs: dict[int, int]
    usable: dict[int, int]
    vintages: frozenset[str]


def surveyed(registry: Registry, date: int) -> Surveyed:
    """The state at midnight before ``date`` (YYYYMMDD, Asia/Shanghai), of registry and trading accounts together.

    Needs are those whose deadline has not passed. The vintages are those that may be surrendered for the latest year
    that is still owed; where an entity owes two years, both needs stand against them.
    """
    start_ns = day_bounds_ns(date)[0]
    with store.reading(registry.engine) as connection:
        owed = needs_at(connection, start_ns, date)
        vintages = {
            row.code: row.vintage for row in connection.execute(select(schema.asset)) if row.kind == "allowance"
        }
        held = holdings_at(connection, start_ns, frozenset(vintages))
    year = max((y for _, y in owed), default=0)
    good = frozenset(c for c, v in vintages.items() if compliance.usable(v, year, date, registry.vintage_rules))
    holdings: Counter[int] = Counter()
    usable: Counter[int] = Counter()
    needs: Counter[int] = Counter()
    for (account, asset), quantity in held.items():
        holdings[account] += quantity
        usable[account] += quantity * (asset in good)
    for (account, _), quantity in owed.items():
        needs[account] += quantity
    return Surveyed(dict(holdings), dict(needs), {a: usable[a] for a in (*usable, *needs)}, good)


def needs_at(connection: Connection, end_ns: int, date: int) -> dict[tuple[int, int], int]:
    """(account, year) → tonnes still to be surrendered or offset, from the acts before a moment."""
    emissions: dict[tuple[int, int], tuple[int, int]] = {}
    given: Counter[tuple[int, int]] = Counter()
    table = schema.act
    query = select(table.c.kind, table.c.content).where(table.c.kind.in_(COMPLIANCE_ACTS), table.c.time_ns < end_ns)
    for kind, text in connection.execute(query.order_by(table.c.id)):
        act = json.loads(text)
        key = act["account"], act["year"]
        if kind == ActKind.OBLIGATION:
            emissions[key] = act["emissions_t"], act["deadline"]
        else:
            given[key] += act["quantity"]
    rest = {key: t - given[key] for key, (t, deadline) in emissions.items() if deadline >= date}
    return {key: t for key, t in rest.items() if t > 0}


def holdings_at(connection: Connection, end_ns: int, assets: frozenset[str]) -> dict[tuple[int, str], int]:
    """(account, asset) → tonnes in all buckets that are not final, at a moment: what is there, less what moved since.

    Two passes over the ledger, none per account; a deal counts from its own time.
    """
    account, transfer, act, seal, deal = (
        schema.ledger_account, schema.transfer, schema.act, schema.seal, schema.deal,
    )  # fmt: skip
    counts = account.c.owner != SYSTEM, account.c.asset.in_(sorted(assets)), account.c.bucket.not_in(FINAL_BUCKETS)
    balance = func.sum(account.c.credits_posted - account.c.debits_posted)
    query = select(account.c.owner, account.c.asset, balance).where(*counts).group_by(account.c.owner, account.c.asset)
    held: Counter[tuple[int, str]] = Counter({(o, a): int(t) for o, a, t in connection.execute(query)})
    done = transfer.c.state.in_((TransferState.POSTED, TransferState.POST_PENDING))
    for end, sign in ((transfer.c.credit, -1), (transfer.c.debit, 1)):
        moved = (
            select(account.c.owner, account.c.asset, func.sum(transfer.c.amount))
            .join(transfer, end == account.c.id)
            .outerjoin(act, act.c.id == transfer.c.act)
            .join(seal, seal.c.batch == transfer.c.batch)
            .where(*counts, done, transfer.c.kind != ActKind.DEAL)
            .where(func.coalesce(act.c.time_ns, seal.c.time_ns) >= end_ns)
            .group_by(account.c.owner, account.c.asset)
        )
        for owner, asset, t in connection.execute(moved):
            held[owner, asset] += sign * int(t)
    for side, sign in ((deal.c.buyer, -1), (deal.c.seller, 1)):
        dealt = (
            select(side, deal.c.instrument, func.sum(deal.c.quantity_t))
            .join(transfer, (transfer.c.act == deal.c.deal_id) & (transfer.c.leg == 0))
            .where(deal.c.time_ns >= end_ns)
            .group_by(side, deal.c.instrument)
        )
        for owner, asset, t in connection.execute(dealt):
            held[owner, asset] += sign * int(t)
    return {key: t for key, t in held.items() if t}
