"""`cea verify registry`: recompute everything that can be recomputed, and name what does not agree.

Seals: every batch's rows are hashed again, in the chain, so a changed, added or removed act, transfer or serial
move is found, also by somebody who can switch triggers off. Balances: every account's four sides are added
up from transfers. Serials: the ranges of each asset cover 1 … next_serial - 1 exactly once, and each account
holds as many serials as its balance says. Conservation: per asset, all balances add up to zero. Fees: the two
parts of each deal's are those that follow from the totals. Real-name accounts and obligations are what the sealed
acts say: nobody complies, or owns, by an edited row.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine, func, select

from settlement import fees, schema, store
from settlement.clearing import Clearing
from settlement.deals import DEAL
from settlement.kinds import CNY, ActKind, TransferState
from settlement.ledger import GENESIS, MOVE_ROW, TRANSFER_ROW, columnar, seal_digest

# Findings of one sort are cut here: a systematic fault would otherwise fill the memory.
FINDINGS_MAX: Final = 100
_FETCH: Final = 50_000


def verify(engine: Engine) -> list[str]:
    """Every finding, in words; empty if the registry is sound. Streams: memory grows with accounts, not rows."""
    with store.reading(engine) as connection:
        findings = _check_seals(connection)
        findings += check(connection)
        findings += _check_days(connection)
        findings += _check_fees(connection)
        findings += _check_accounts(connection)
        findings += _check_obligations(connection)
    return findings


def check(connection: Connection) -> list[str]:
    """The invariants of the ledger and the serial ranges: what tests and a nightly audit run."""
    return _check_balances(connection) + _check_ranges(connection) + _check_conservation(connection)


def _stream(connection: Connection, query: Any) -> Iterator[Any]:
    return iter(connection.execution_options(yield_per=_FETCH).execute(query))


class _Grouped:
    """Rows of a stream that is ordered by batch, batch by batch."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, batch: int) -> list[Any]:
        found: list[Any] = []
        while self._next is not None and self._next.batch == batch:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found

    @property
    def rest(self) -> Any:
        return self._next


def _check_seals(connection: Connection) -> list[str]:
    transfer, move, act = schema.transfer, schema.serial_move, schema.act
    transfers = _Grouped(_stream(connection, select(transfer).order_by(transfer.c.batch)))
    moves = _Grouped(_stream(connection, select(move).order_by(move.c.batch)))
    acts = _Grouped(_stream(connection, select(act).order_by(act.c.batch)))
    previous, last, findings = GENESIS, 0, list[str]()
    for seal in connection.execute(select(schema.seal).order_by(schema.seal.c.batch)).all():
        if seal.batch != last + 1:
            findings.append(f"seal: batches {last + 1} to {seal.batch - 1} are missing")
        rows, pieces, vouchers = transfers.of(seal.batch), moves.of(seal.batch), acts.of(seal.batch)
        digest = seal_digest(
            previous,
            columnar(TRANSFER_ROW, rows),
            columnar(MOVE_ROW, [(p.act, p.leg, p.piece, p.first, p.last, p.asset) for p in pieces]),
            [(a.id, f"{a.document}|{a.content}|{a.account}|{a.time_ns}") for a in vouchers],
        )
        if digest != bytes(seal.digest):
            findings.append(f"seal: batch {seal.batch} ({len(rows)} transfers) was changed after it was posted")
        if len(findings) >= FINDINGS_MAX:
            return findings
        previous, last = bytes(seal.digest), seal.batch
    for name, left in (("transfer", transfers.rest), ("serial_move", moves.rest), ("act", acts.rest)):
        if left is not None:
            findings.append(f"seal: a {name} of batch {left.batch} belongs to no sealed batch")
    head = connection.execute(select(schema.head)).one()
    if (head.batch, bytes(head.digest)) != (last, previous):
        findings.append(f"head: stands at batch {head.batch}, the last seal is {last}")
    return findings


def _check_balances(connection: Connection) -> list[str]:
    table = schema.transfer
    sides: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    open_pending: dict[tuple[int, int], tuple[int, int, int]] = {}
    query = select(table.c.debit, table.c.credit, func.sum(table.c.amount)).group_by(table.c.debit, table.c.credit)
    posted = table.c.state.in_((TransferState.POSTED, TransferState.POST_PENDING))
    for debit, credit, amount in connection.execute(query.where(posted)):
        sides[credit][0] += int(amount)
        sides[debit][1] += int(amount)
    for row in connection.execute(select(table).where(table.c.state == TransferState.PENDING)):
        open_pending[row.act, row.leg] = (row.debit, row.credit, row.amount)
    for row in connection.execute(select(table.c.ref_act, table.c.ref_leg).where(table.c.ref_act.is_not(None))):
        open_pending.pop((row[0], row[1]), None)
    for debit, credit, amount in open_pending.values():
        sides[credit][2] += amount
        sides[debit][3] += amount
    findings: list[str] = []
    for row in connection.execute(select(schema.ledger_account)):
        stored = [row.credits_posted, row.debits_posted, row.credits_pending, row.debits_pending]
        if stored != sides[row.id]:
            findings.append(
                f"balance: account {row.owner}, {row.asset}, {row.bucket} stands at {stored}, "
                f"transfers say {sides[row.id]}"
            )
    return findings[:FINDINGS_MAX]


def _check_ranges(connection: Connection) -> list[str]:
    held, account = schema.holding_range, schema.ledger_account
    findings: list[str] = []
    next_serial = {row.code: row.next_serial for row in connection.execute(select(schema.asset))}
    reached = dict.fromkeys(next_serial, 1)
    counted: dict[int, int] = defaultdict(int)
    for row in _stream(connection, select(held).order_by(held.c.asset, held.c.first)):
        if row.first != reached[row.asset]:
            fault = "is held by nobody" if row.first > reached[row.asset] else "is held twice"
            findings.append(f"serials: {row.asset} {min(row.first, reached[row.asset])} {fault}")
            if len(findings) >= FINDINGS_MAX:
                return findings
        reached[row.asset] = row.last + 1
        counted[row.account] += row.last - row.first + 1
    for code, serial in next_serial.items():
        if reached[code] != serial:
            findings.append(f"serials: {code} ranges end at {reached[code] - 1}, issued were {serial - 1}")
    for row in connection.execute(select(account).where(account.c.asset != CNY, account.c.unbounded == 0)):
        balance = row.credits_posted - row.debits_posted
        if counted[row.id] != balance:
            findings.append(
                f"serials: account {row.owner}, {row.asset}, {row.bucket} holds {counted[row.id]} serials, "
                f"balance {balance}"
            )
    return findings[:FINDINGS_MAX]


def _check_conservation(connection: Connection) -> list[str]:
    table = schema.ledger_account
    balance = func.sum(table.c.credits_posted - table.c.debits_posted)
    return [
        f"conservation: the balances of {code} add up to {int(total)}, not 0"
        for code, total in connection.execute(select(table.c.asset, balance).group_by(table.c.asset))
        if int(total) != 0
    ]


def _check_days(connection: Connection) -> list[str]:
    """The deals of each cleared day still have the hash that both sides confirmed."""
    days, deal = schema.settlement_day, schema.deal
    names = [name for name in DEAL.names or () if name != "reserved"]
    findings: list[str] = []
    for day in connection.execute(select(days)).all():
        if not bytes(day.digest):
            continue
        clearing = Clearing(day.date)
        query = select(*(deal.c[name] for name in names)).where(deal.c.date == day.date).order_by(deal.c.deal_id)
        for part in connection.execution_options(yield_per=_FETCH).execute(query).partitions():
            block = np.zeros(len(part), dtype=DEAL)
            for name, values in zip(names, zip(*part, strict=True), strict=True):
                block[name] = [v.encode("ascii") for v in values] if name == "instrument" else values
            clearing.add(block)
        if clearing.summary().digest != bytes(day.digest).hex():
            findings.append(f"deals: those of {day.date} are not the ones that were confirmed")
    return findings


def _check_fees(connection: Connection) -> list[str]:
    """The parts of each deal's fees are those that follow from the totals, which are sealed (settlement.fees)."""
    act, part, deal = schema.act, schema.deal_fee, schema.deal
    findings: list[str] = []
    split: set[int] = set()
    for row in connection.execute(select(act).where(act.c.kind == ActKind.SPLIT_FEES).order_by(act.c.batch)).all():
        content = json.loads(row.content)
        if "deals" not in content:
            continue  # split before deals had parts
        split.add(row.batch)
        query = (
            select(
                part.c.deal_id,
                deal.c.buyer_fee_fen,
                deal.c.seller_fee_fen,
                part.c.buyer_trading_fen,
                part.c.seller_trading_fen,
            )
            .join(deal, deal.c.deal_id == part.c.deal_id)
            .where(part.c.batch == row.batch)
            .order_by(part.c.deal_id)
        )
        rows = ((r[0], r[1], r[2], r[3], r[4]) for r in _stream(connection, query))
        fault = fees.fault(rows, content["trading_fen"], content["settlement_fen"])
        if fault:
            findings.append(f"fees: {row.document}: {fault}")
    batches = set(connection.execute(select(part.c.batch).distinct()).scalars())
    findings += [f"fees: those of batch {batch} belong to no act" for batch in sorted(batches - split)]
    return findings[:FINDINGS_MAX]


def _contents(connection: Connection, *kinds: ActKind) -> Iterator[tuple[ActKind, dict[str, Any]]]:
    """The contents of the acts of some kinds, in the order in which they were posted."""
    act = schema.act
    query = select(act.c.kind, act.c.content, act.c.account).where(act.c.kind.in_(kinds))
    for row in _stream(connection, query.order_by(act.c.batch, act.c.time_ns)):
        yield ActKind(row.kind), {"account": row.account, **json.loads(row.content)}


def _check_accounts(connection: Connection) -> list[str]:
    """Each real-name account is as it was opened (R13.1), and closed only by an act."""
    wanted: dict[int, dict[str, Any]] = {}
    for kind, content in _contents(connection, ActKind.OPEN_ACCOUNT, ActKind.CLOSE_ACCOUNT):
        if kind == ActKind.OPEN_ACCOUNT:
            wanted[content["account"]] = {**content, "state": "open"}
        elif content["account"] in wanted:
            wanted[content["account"]]["state"] = "closed"
    findings: list[str] = []
    for row in connection.execute(select(schema.registry_account)):
        terms = wanted.pop(row.account, None)
        if terms is None:
            findings.append(f"accounts: {row.account} was opened by no act")
            continue
        findings += [
            f"accounts: {row.account}: {field} is {getattr(row, field)!r}, its act says {value!r}"
            for field, value in terms.items()
            if getattr(row, field) != value
        ]
    findings += [f"accounts: {account} was opened, its row is missing" for account in wanted]
    return findings[:FINDINGS_MAX]


def _check_obligations(connection: Connection) -> list[str]:
    """Verified emissions, surrenders and offsets of each year are the sums of their acts (R13.4, R13.5)."""
    said: dict[tuple[int, int], list[int]] = {}  # (account, year) -> emissions, deadline, surrendered, offset
    kinds = (ActKind.OBLIGATION, ActKind.SURRENDER, ActKind.FORCED_SURRENDER, ActKind.OFFSET)
    for kind, content in _contents(connection, *kinds):
        terms = said.setdefault((content["account"], content["year"]), [0, 0, 0, 0])
        if kind == ActKind.OBLIGATION:
            terms[:2] = content["emissions_t"], content["deadline"]
        else:
            terms[3 if kind == ActKind.OFFSET else 2] += content["quantity"]
    findings: list[str] = []
    for row in connection.execute(select(schema.obligation)):
        stored = [row.emissions_t, row.deadline, row.surrendered_t, row.offset_t]
        terms = said.pop((row.account, row.year), [])
        if stored != terms:
            findings.append(f"obligations: {row.account} for {row.year} stands at {stored}, its acts say {terms}")
    findings += [f"obligations: {account} for {year} has acts, its row is missing" for account, year in said]
    return findings[:FINDINGS_MAX]
