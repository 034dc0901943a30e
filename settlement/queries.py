"""What the registry can be asked: balances, statements, a serial number's history, circulation.

All answers of one call come from one view of the database.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, literal_column, select, union

from settlement import fees, schema, store
from settlement.base import RegistryBase, find_account
from settlement.errors import BAD_FIELD, UNKNOWN_ACCOUNT, Refused
from settlement.fees import DealFees
from settlement.hours import day_bounds_ns
from settlement.kinds import CASH, CNY, ISSUER, SYSTEM, ActKind, TransferState
from settlement.serials import Range, join, parse_serial, serial_text

_SPAN_CLASSES: Final = 41  # bit lengths of 1 … SERIAL_MAX


@dataclass(frozen=True, slots=True)
class Holding:
    """One bucket of one account: ``quantity`` is posted, ``reserved`` of it is tied up in requests."""

    account: int
    asset: str
    bucket: str
    quantity: int
    reserved: int

    @property
    def available(self) -> int:
        return self.quantity - self.reserved


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that ties up ``amount`` (t or fen) until it is decided."""

    kind: str
    document: str
    account: int
    amount: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Line:
    """One movement of a statement. ``change`` is signed, in tonnes or fen."""

    time_ns: int
    kind: str
    document: str
    asset: str
    bucket: str
    change: int
    counterparty: int | None = None
    price_fen: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """Movements of one account in [start_ns, end_ns), with the balances before and after."""

    account: int
    start_ns: int
    end_ns: int
    opening: dict[tuple[str, str], int]
    lines: list[Line]
    closing: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class SerialStep:
    """One step in a serial number's life."""

    batch: int
    time_ns: int
    kind: str
    document: str
    giver: str
    taker: str
    first: int
    last: int


class Queries(RegistryBase):
    """Read-only answers."""

    def holdings(self, account: int | None = None) -> list[Holding]:
        """Every bucket that is not empty, of one account or of all traders."""
        with store.reading(self.engine) as connection:
            return _holdings(connection, account)

    def accounts(self) -> list[Row]:
        """Every real-name account: the rows of ``schema.registry_account``, in order of account ids."""
        table = schema.registry_account
        with store.reading(self.engine) as connection:
            return list(connection.execute(select(table).order_by(table.c.account)))

    def waiting(self) -> list[Waiting]:
        """Requests that are not decided yet: what they tie up, oldest first (R13.3)."""
        transfer, act, ended = schema.transfer, schema.act, schema.transfer.alias()
        query = (
            select(
                act.c.kind, act.c.document, act.c.account, act.c.time_ns, func.sum(transfer.c.amount).label("amount")
            )
            .join(transfer, transfer.c.act == act.c.id)
            .where(
                transfer.c.state == TransferState.PENDING,
                ~select(ended.c.act)
                .where(ended.c.ref_act == transfer.c.act, ended.c.ref_leg == transfer.c.leg)
                .correlate(transfer)
                .exists(),
            )
            .group_by(act.c.kind, act.c.document, act.c.account, act.c.time_ns, act.c.batch)
            .order_by(act.c.batch)
        )
        with store.reading(self.engine) as connection:
            return [
                Waiting(ActKind(row.kind).name.lower(), row.document, row.account, int(row.amount), row.time_ns)
                for row in connection.execute(query)
            ]

    def balance(self, account: int, asset: str, bucket: str) -> int:
        """What the bucket holds (posted), in tonnes or fen; 0 where it was never used."""
        table = schema.ledger_account
        query = select(table.c.credits_posted - table.c.debits_posted).where(
            table.c.owner == account, table.c.asset == asset, table.c.bucket == bucket
        )
        with store.reading(self.engine) as connection:
            return connection.execute(query).scalar_one_or_none() or 0

    def cash(self, account: int) -> int:
        """The trader's money in fen."""
        return self.balance(account, CNY, CASH)

    def ranges(self, account: int, asset: str, bucket: str) -> list[Range]:
        """The serial ranges in a bucket, joined."""
        ledger_account, held = schema.ledger_account, schema.holding_range
        query = (
            select(held.c.first, held.c.last)
            .join(ledger_account, ledger_account.c.id == held.c.account)
            .where(
                ledger_account.c.owner == account, ledger_account.c.asset == asset, ledger_account.c.bucket == bucket
            )
        )
        with store.reading(self.engine) as connection:
            return join((row[0], row[1]) for row in connection.execute(query))

    def holdings_on(self, account: int, date: int) -> dict[tuple[str, str], int]:
        """(asset, bucket) -> tonnes or fen at the end of a date (YYYYMMDD), from the ledger's own movements."""
        with store.reading(self.engine) as connection:
            return balances_at(connection, account, day_bounds_ns(date)[1])

    def circulation(self) -> dict[str, dict[str, int]]:
        """Per allowance asset: tonnes issued and tonnes per bucket. ``issued`` equals the sum of the rest."""
        table = schema.ledger_account
        query = (
            select(table.c.asset, table.c.bucket, func.sum(table.c.credits_posted - table.c.debits_posted))
            .where(table.c.asset != CNY)
            .group_by(table.c.asset, table.c.bucket)
        )
        found: dict[str, dict[str, int]] = {}
        with store.reading(self.engine) as connection:
            for code, bucket, quantity in connection.execute(query):
                name, sign = ("issued", -1) if bucket == ISSUER else (bucket, 1)
                found.setdefault(code, {})[name] = sign * int(quantity)
        return found

    def statement(self, account: int, start_ns: int, end_ns: int) -> Statement | Refused:
        """The account's movements in [start_ns, end_ns), by time of the act (a deal: of the deal)."""
        if start_ns > end_ns:
            return Refused(BAD_FIELD, "start_ns", "is after end_ns")
        with store.reading(self.engine) as connection:
            if find_account(connection, account) is None:
                return Refused(UNKNOWN_ACCOUNT, "account", f"account {account} is not registered")
            now = {(h.asset, h.bucket): h.quantity for h in _holdings(connection, account)}
            lines = _lines(connection, account, start_ns)
        closing, later = dict(now), [line for line in lines if line.time_ns >= end_ns]
        lines = [line for line in lines if line.time_ns < end_ns]
        for line in later:
            _add(closing, line, -1)
        opening = dict(closing)
        for line in lines:
            _add(opening, line, -1)
        return Statement(account, start_ns, end_ns, _without_zeros(opening), lines, _without_zeros(closing))

    def decisions(self) -> list[dict[str, Any]]:
        """What operators have decided on days and deals (D26), oldest first: the acts' contents."""
        act = schema.act
        query = select(act.c.content).where(act.c.account == SYSTEM, act.c.kind == ActKind.OPERATOR)
        with store.reading(self.engine) as connection:
            return [json.loads(text) for text in connection.execute(query.order_by(act.c.batch)).scalars()]

    def fees_of_deals(self, date: int) -> list[DealFees]:
        """The fees of a day's deals, each in its two parts (R5.7), in order of deals."""
        with store.reading(self.engine) as connection:
            return list(fees.of_day(connection, date))

    def history(self, serial: str) -> list[SerialStep] | Refused:
        """Everything that ever happened to one serial number, oldest first."""
        parsed = parse_serial(serial)
        if parsed is None:
            return Refused(BAD_FIELD, "serial", f"{serial!r} is not of the form {serial_text('CEA24', 1)}")
        code, number = parsed
        move, transfer, seal = schema.serial_move, schema.transfer, schema.seal
        with store.reading(self.engine) as connection:
            keys = _moves_of(connection, code, number)
            query = (
                select(
                    move, transfer.c.debit, transfer.c.credit, transfer.c.kind, seal.c.time_ns, schema.act.c.document
                )
                .join(transfer, (transfer.c.act == move.c.act) & (transfer.c.leg == move.c.leg))
                .join(seal, seal.c.batch == move.c.batch)
                .outerjoin(schema.act, schema.act.c.id == move.c.act)
                # By act alone: SQLite does not look tuples up in the index.
                .where(move.c.act.in_({key[0] for key in keys}), move.c.first <= number, move.c.last >= number)
            )
            found: list[Row] = [row for row in connection.execute(query) if (row.act, row.leg, row.piece) in keys]
            names = _account_names(connection, {row.debit for row in found} | {row.credit for row in found})
        found.sort(key=lambda row: (row.batch, row.piece))
        return [
            SerialStep(
                row.batch,
                row.time_ns,
                ActKind(row.kind).name.lower(),
                row.document or f"deal {row.act}",
                names[row.debit],
                names[row.credit],
                row.first,
                row.last,
            )
            for row in found
        ]


def _moves_of(connection: Connection, code: str, number: int) -> set[tuple[int, int, int]]:
    """The keys (act, leg, piece) of the moves of one serial number: one look into the index per span class."""
    spans = range(1, _SPAN_CLASSES)
    if connection.dialect.name == "sqlite":
        one = (
            "SELECT act, leg, piece FROM serial_move WHERE asset=? AND span=? "
            'AND "first">? AND "first"<=? AND "last">=?'
        )
        values = [value for span in spans for value in (code, span, number - (1 << span), number, number)]
        rows = connection.exec_driver_sql(" UNION ALL ".join([one] * len(spans)), tuple(values))
    else:
        # The same as a loop inside: to plan forty parts takes longer than to run them. OFFSET 0 keeps the planner
        # from turning the loop into a join that reads every move below the number.
        rows = connection.exec_driver_sql(
            "SELECT m.act, m.leg, m.piece FROM unnest(%s::smallint[], %s::bigint[]) AS s(span, low), "
            "LATERAL (SELECT act, leg, piece FROM serial_move WHERE asset=%s AND span=s.span "
            'AND "first">s.low AND "first"<=%s AND "last">=%s OFFSET 0) m',
            (list(spans), [number - (1 << span) for span in spans], code, number, number),
        )
    return {(row[0], row[1], row[2]) for row in rows}


def _holdings(connection: Connection, account: int | None) -> list[Holding]:
    table = schema.ledger_account
    query = select(
        table.c.owner,
        table.c.asset,
        table.c.bucket,
        table.c.credits_posted - table.c.debits_posted,
        table.c.debits_pending,
    ).where(table.c.credits_posted != table.c.debits_posted)
    query = query.where(table.c.owner != SYSTEM if account is None else table.c.owner == account)
    rows = connection.execute(query.order_by(table.c.owner, table.c.asset, table.c.bucket))
    return [Holding(*row) for row in rows]


def _add(balances: dict[tuple[str, str], int], line: Line, sign: int) -> None:
    key = (line.asset, line.bucket)
    balances[key] = balances.get(key, 0) + sign * line.change


def _without_zeros(balances: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    return {key: value for key, value in sorted(balances.items()) if value}


def balances_at(connection: Connection, account: int, end_ns: int) -> dict[tuple[str, str], int]:
    """(asset, bucket) -> what the account held at a moment: what it holds now, less every movement since.

    A deal counts from its own time, not from its delivery in the evening."""
    balances = {(h.asset, h.bucket): h.quantity for h in _holdings(connection, account)}
    for line in _lines(connection, account, end_ns):
        _add(balances, line, -1)
    return _without_zeros(balances)


def _lines(connection: Connection, account: int, start_ns: int) -> list[Line]:
    """The account's movements from start_ns to now, in order."""
    table = schema.ledger_account
    mine = {
        row.id: (row.asset, row.bucket)
        for row in connection.execute(select(table.c.id, table.c.asset, table.c.bucket).where(table.c.owner == account))
    }
    lines = [line for row in _deal_rows(connection, account, start_ns) for line in _deal_lines(row, account)]
    lines.extend(_act_lines(connection, mine, start_ns))
    return sorted(lines, key=lambda line: line.time_ns)


def _act_lines(connection: Connection, mine: dict[int, tuple[str, str]], start_ns: int) -> list[Line]:
    table, act, seal = schema.transfer, schema.act, schema.seal
    # One look into each of the two indexes. In one condition with "or", and with the kind as a parameter, neither
    # database would use them: it would read the transfers of all accounts.
    transfer = union(
        *(
            select(table).where(
                table.c.kind != literal_column(str(int(ActKind.DEAL))),
                side.in_(list(mine)),
                table.c.state.in_((TransferState.POSTED, TransferState.POST_PENDING)),
            )
            for side in (table.c.debit, table.c.credit)
        )
    ).subquery()
    query = (
        select(transfer, func.coalesce(act.c.time_ns, seal.c.time_ns).label("at"), act.c.document)
        .outerjoin(act, act.c.id == transfer.c.act)
        .join(seal, seal.c.batch == transfer.c.batch)
        .order_by(transfer.c.batch, transfer.c.act, transfer.c.leg)
    )
    lines: list[Line] = []
    for row in connection.execute(query):
        if row.at < start_ns:
            continue
        document = row.document or f"deal {row.act}"
        for number, sign in ((row.debit, -1), (row.credit, 1)):
            if number in mine:
                lines.append(Line(row.at, ActKind(row.kind).name.lower(), document, *mine[number], sign * row.amount))
    return lines


def _deal_rows(connection: Connection, account: int, start_ns: int) -> Sequence[Row]:
    """The account's settled deals (their cash leg is posted) from start_ns on."""
    deal, transfer = schema.deal, schema.transfer
    part = schema.deal_fee
    rows: list[Row] = []
    for side, trading in ((deal.c.buyer, part.c.buyer_trading_fen), (deal.c.seller, part.c.seller_trading_fen)):
        query = (
            select(deal, trading.label("trading_fen"))
            .join(transfer, (transfer.c.act == deal.c.deal_id) & (transfer.c.leg == 0))
            .outerjoin(part, part.c.deal_id == deal.c.deal_id)
            .where(side == account, deal.c.time_ns >= start_ns)
            .order_by(deal.c.deal_id)
        )
        rows.extend(connection.execute(query))
    return rows


def _deal_lines(row: Row, account: int) -> list[Line]:
    bought = row.buyer == account
    sign = 1 if bought else -1
    other, document = (row.seller if bought else row.buyer), f"deal {row.deal_id}"
    fee = row.buyer_fee_fen if bought else row.seller_fee_fen
    name = "bought" if bought else "sold"
    lines = [
        Line(row.time_ns, name, document, row.instrument, "trading", sign * row.quantity_t, other, row.price_fen),
        Line(row.time_ns, name, document, CNY, CASH, -sign * row.amount_fen, other, row.price_fen),
    ]
    # Until the day's fees are divided (settlement.fees) there is one line.
    parts = (("fee", fee),) if row.trading_fen is None else _fee_parts(row.trading_fen, fee)
    lines += [Line(row.time_ns, name, document, CNY, CASH, -part) for name, part in parts if part]
    return lines


def _fee_parts(trading: int, fee: int) -> tuple[tuple[str, int], ...]:
    return (("trading fee", trading), ("settlement fee", fee - trading))


def _account_names(connection: Connection, numbers: set[int]) -> dict[int, str]:
    table = schema.ledger_account
    rows = connection.execute(select(table.c.id, table.c.owner, table.c.bucket).where(table.c.id.in_(numbers)))
    return {row.id: row.bucket if row.owner == SYSTEM else f"{row.owner} {row.bucket}" for row in rows}


def statement_json(statement: Statement) -> str:
    """A statement as JSON, for files and messages."""

    def balances(of: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
        return [{"asset": asset, "bucket": bucket, "balance": value} for (asset, bucket), value in of.items()]

    lines = [{name: getattr(line, name) for name in Line.__dataclass_fields__} for line in statement.lines]
    document = {
        "account": statement.account,
        "start_ns": statement.start_ns,
        "end_ns": statement.end_ns,
        "opening": balances(statement.opening),
        "lines": lines,
        "closing": balances(statement.closing),
    }
    return json.dumps(document, ensure_ascii=False)
