"""Delivery versus payment: each deal's allowance leg and cash leg post together or not at all (R12.2, D25).

A day's deals are received, cleared, confirmed and then delivered in blocks; a block is one transaction, and
``settlement_day.settled_through`` moves with it. After a kill at any point the next call goes on behind the
last block that was committed; a deal's transfers are keyed by the deal, so none can post twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, func, insert, select, update

from settlement import schema, store
from settlement.clearing import Clearing, Summary, differences
from settlement.deals import DEAL, DEALS_PER_DAY_MAX, Deals, date_of, faults
from settlement.errors import BAD_FIELD, MISMATCH, UNKNOWN_ASSET, UNKNOWN_DEAL, WRONG_STATE, Refused
from settlement.kinds import CASH, CLAIMS, CNY, FEES, OWED, RESERVE, SYSTEM, TRADING, ActKind
from settlement.ledger import Act, DealColumns, Leg, Posting
from settlement.registry import Registry
from settlement.states import DayEvent, DayState, DealEvent, DealState, next_day, next_deal

# Deals a transaction. Every block reads and writes each busy account and its next serial ranges once, so one
# block of 100,000 costs a quarter less than five of 20,000; it needs some 100 MB, whatever the day's size.
BLOCK_DEALS: Final = 100_000
# Fewer deals than this are posted one by one: laying out columns would cost more.
_BULK_MIN: Final = 16
# Leg numbers of a deal; they never change, since a transfer's key is (deal, leg).
ALLOWANCE, PAYMENT, BUYER_FEE, SELLER_FEE, COVER, COVER_OWED, REPAY, REPAY_OWED = range(8)

_STORED: Final = tuple(name for name in (DEAL.names or ()) if name != "reserved")
_READ_DEALS: Final = f"SELECT {', '.join(_STORED)} FROM deal WHERE deal_id > ? AND deal_id < ? ORDER BY deal_id LIMIT ?"


@dataclass(frozen=True, slots=True)
class Held:
    """A deal that could not post, and why."""

    deal_id: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Day:
    """Where the settlement of a day stands."""

    date: int
    state: DayState
    summary: Summary
    held: list[Held]


class Delivery:
    """The settlement of days, on a registry's database."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.engine = registry.engine
        self.ledger = registry.ledger

    # -- receive

    def receive(self, date: int, blocks: Iterable[Deals], time_ns: int) -> int | Refused:
        """Store the day's deals as originals; returns how many the day has. Blocks are in order of deal id.
        Called again (after a kill), it goes on with the deals that are not in yet."""
        with store.writing(self.engine) as connection:
            refused = self._open_day(connection, date, time_ns)
            if refused is not None:
                return refused
            codes = {code.encode() for code in connection.execute(select(schema.asset.c.code)).scalars()}
            last = _last_deal(connection, date)
        count = 0
        after = 0
        for block in blocks:
            wrong = faults(block, date, after)
            unknown = sorted(set(np.unique(block["instrument"]).tolist()) - codes)
            if wrong:
                return Refused(BAD_FIELD, "deals", "; ".join(wrong))
            if unknown:
                return Refused(UNKNOWN_ASSET, "instrument", f"{unknown[0].decode(errors='replace')} is not registered")
            if len(block):
                after = int(block["deal_id"][-1])
            count += len(block)
            fresh = block[block["deal_id"] > last]
            if len(fresh):
                with store.writing(self.engine) as connection:
                    store.insert_columns(connection, schema.deal, {name: fresh[name] for name in _STORED})
        return count

    @staticmethod
    def _open_day(connection: Connection, date: int, time_ns: int) -> Refused | None:
        table = schema.settlement_day
        state = connection.execute(select(table.c.state).where(table.c.date == date)).scalar_one_or_none()
        if state is None:
            connection.execute(
                insert(table).values(
                    date=date,
                    state=DayState.OPEN.value,
                    deals=0,
                    quantity_t=0,
                    amount_fen=0,
                    fees_fen=0,
                    digest=b"",
                    settled_through=date * (DEALS_PER_DAY_MAX + 1),
                    time_ns=time_ns,
                )
            )
        elif state != DayState.OPEN:
            return Refused(WRONG_STATE, "date", f"{date} is {state}: no more deals")
        return None

    def stored_deals(self, date: int, block_deals: int = BLOCK_DEALS) -> Iterator[Deals]:
        """The day's deals as stored, in blocks, in order of their ids."""
        after = date * (DEALS_PER_DAY_MAX + 1)
        while True:
            with store.reading(self.engine) as connection:
                block = _read_deals(connection, date, after, block_deals)
            if not len(block):
                return
            yield block
            after = int(block["deal_id"][-1])

    # -- clear and confirm

    def clear(self, date: int, time_ns: int, block_deals: int = BLOCK_DEALS) -> Summary | Refused:
        """Sum the stored deals per trader; the result goes to the exchange (R12.3)."""
        clearing = Clearing(date)
        for block in self.stored_deals(date, block_deals):
            clearing.add(block)
        summary = clearing.summary()
        with store.writing(self.engine) as connection:
            refused = self._step(connection, date, DayEvent.CLEAR, time_ns)
            if refused is not None:
                return refused
            connection.execute(schema.clearing.delete().where(schema.clearing.c.date == date))
            columns = [column.name for column in schema.clearing.c]
            rows = [
                (date, account, code, s.deals, s.bought_t, s.bought_fen, s.sold_t, s.sold_fen, s.fees_fen)
                for (account, code), s in clearing.traders.items()
            ]
            store.insert_rows(connection, schema.clearing, columns, rows)
            days = schema.settlement_day
            connection.execute(
                update(days)
                .where(days.c.date == date)
                .values(
                    deals=summary.deals,
                    quantity_t=summary.quantity_t,
                    amount_fen=summary.amount_fen,
                    fees_fen=summary.fees_fen,
                    digest=bytes.fromhex(summary.digest),
                )
            )
        return summary

    def confirm(self, theirs: Summary, time_ns: int) -> Refused | None:
        """Compare with the exchange's own summary; only equal summaries confirm the day (R12.3)."""
        day = self.day(theirs.date)
        if isinstance(day, Refused):
            return day
        if day.state not in (DayState.CLEARED, DayState.DISPUTED):
            return None if day.state != DayState.OPEN and not differences(day.summary, theirs) else _wrong(day)
        found = differences(day.summary, theirs)
        with store.writing(self.engine) as connection:
            event = DayEvent.DISAGREE if found else DayEvent.AGREE
            refused = self._step(connection, theirs.date, event, time_ns)
        if found:
            return Refused(MISMATCH, "clearing", "; ".join(found))
        return refused

    # -- deliver

    def settle(
        self,
        date: int,
        time_ns: int,
        block_deals: int = BLOCK_DEALS,
        after_block: Callable[[int], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Day | Refused:
        """Deliver the confirmed day, block by block; after each, ``after_block`` hears its last deal's id and
        ``progress`` how many deals it had."""
        with store.writing(self.engine) as connection:
            state = _day_row(connection, date)
            if state is not None and state.state in _DELIVERED:
                refused = None
            else:
                refused = self._step(connection, date, DayEvent.START, time_ns)
        if refused is not None:
            return refused
        while True:
            tried = self._settle_block(date, time_ns, block_deals)
            if tried is None:
                break
            last, count = tried
            if progress is not None:
                progress(count)
            if after_block is not None:
                after_block(last)
        return self._finish(date, time_ns)

    def _settle_block(self, date: int, time_ns: int, block_deals: int) -> tuple[int, int] | None:
        """Deliver the next deals in one transaction; the last deal's id and how many, or None if none was left."""
        with self.ledger.posting(time_ns, day=date) as posting:
            connection = posting.connection
            day = _day_row(connection, date)
            assert day is not None
            block = _read_deals(connection, date, day.settled_through, block_deals)
            if not len(block):
                return None
            _preload(posting, block)
            held = _post_all(posting, block, _Proceeds(connection))
            last = int(block["deal_id"][-1])

            def write(connection: Connection) -> None:
                rows = [(deal, DealState.HELD.value, reason, time_ns) for deal, reason in held]
                store.insert_rows(connection, schema.held_deal, ("deal_id", "state", "reason", "time_ns"), rows)
                days = schema.settlement_day
                connection.execute(update(days).where(days.c.date == date).values(settled_through=last))

            posting.at_end(write)
        return last, len(block)

    def _finish(self, date: int, time_ns: int) -> Day | Refused:
        day = self.day(date)
        if isinstance(day, Refused):
            return day
        waiting = [held for held in day.held if held.state == DealState.HELD]
        if day.state == DayState.SETTLING:
            event: DayEvent | None = DayEvent.HOLD if waiting else DayEvent.FINISH
        else:
            event = DayEvent.RESOLVE if day.state == DayState.HELD and not waiting else None
        if event is not None:
            with store.writing(self.engine) as connection:
                refused = self._step(connection, date, event, time_ns)
            if refused is not None:
                return refused
        return self.day(date)

    # -- held deals (D26, R12.5, D28)

    def retry(self, date: int, time_ns: int) -> Day | Refused:
        """Try the day's held deals again, in order."""
        day = self.day(date)
        if isinstance(day, Refused):
            return day
        for held in day.held:
            if held.state == DealState.HELD:
                self._try_again(held.deal_id, time_ns, cover=False, act=None)
        return self._finish(date, time_ns)

    def cover(self, deal: int, document: str, by: str, time_ns: int) -> Day | Refused:
        """An operator's decision: what the buyer lacks comes from the risk reserve and is claimed back (R12.5)."""
        act = Act(ActKind.OPERATOR, document, SYSTEM, time_ns, {"deal": deal, "decision": "cover", "by": by})
        refused = self._try_again(deal, time_ns, cover=True, act=act)
        return refused or self._finish(date_of(deal), time_ns)

    def reverse(self, deal: int, document: str, by: str, time_ns: int) -> Day | Refused:
        """An operator takes a held deal back (D28): nothing was delivered, nothing will be. The exchange has to
        give both sides back what they paid with; the reconciliation names them until it has."""
        act = Act(ActKind.REVERSAL, document, SYSTEM, time_ns, {"deal": deal, "decision": "reverse", "by": by})
        with self.ledger.posting(time_ns) as posting:
            row = _held_row(posting.connection, deal)
            if row is None:
                return Refused(UNKNOWN_DEAL, "deal", f"{deal} is not held")
            to = next_deal(DealState(row.state), DealEvent.REVERSE)
            if to is None:
                return Refused(WRONG_STATE, "deal", f"{deal} is {row.state}")
            posted = self.registry.post_in(posting, act, lambda _: [])
            if isinstance(posted, Refused):
                return posted
            posting.at_end(lambda connection: _mark(connection, deal, to, f"reversed by {by}: {document}", time_ns))
        return self._finish(date_of(deal), time_ns)

    def _try_again(self, deal: int, time_ns: int, cover: bool, act: Act | None) -> Refused | None:
        with self.ledger.posting(time_ns, day=date_of(deal)) as posting:
            row = _held_row(posting.connection, deal)
            if row is None:
                return Refused(UNKNOWN_DEAL, "deal", f"{deal} is not held")
            if next_deal(DealState(row.state), DealEvent.POST) is None:
                return Refused(WRONG_STATE, "deal", f"{deal} is {row.state}")
            if act is not None:
                posted = self.registry.post_in(posting, act, lambda _: [])
                if isinstance(posted, Refused):
                    return posted
            block = _read_deals(posting.connection, date_of(deal), deal - 1, 1)
            _preload(posting, block)
            proceeds = _Proceeds(posting.connection, anything=cover)
            failed = next(iter(_post_block(posting, block, proceeds)))
            if failed is None:
                posting.at_end(lambda c: _mark(c, deal, DealState.SETTLED, row.reason, time_ns))
            else:
                reason = failed[1]
                posting.at_end(lambda c: _mark(c, deal, DealState.HELD, reason, time_ns))
        return None

    # -- the day's state

    def day(self, date: int) -> Day | Refused:
        """Where the day stands."""
        with store.reading(self.engine) as connection:
            row = _day_row(connection, date)
            if row is None:
                return Refused(BAD_FIELD, "date", f"{date} has no settlement")
            held = connection.execute(_held_query(date)).all()
        summary = Summary(date, row.deals, row.quantity_t, row.amount_fen, row.fees_fen, bytes(row.digest).hex())
        return Day(date, DayState(row.state), summary, [Held(h.deal_id, h.state, h.reason) for h in held])

    def tried(self, date: int) -> int:
        """How many deals of the day were delivered or, where they could not post, are held."""
        days, deal = schema.settlement_day, schema.deal.c.deal_id
        with store.reading(self.engine) as connection:
            through = connection.execute(select(days.c.settled_through).where(days.c.date == date)).scalar_one_or_none()
            if through is None:
                return 0
            query = select(func.count()).where(_of_day(deal, date)[0], deal <= through)
            return int(connection.execute(query).scalar_one())

    def days(self, before: int) -> list[tuple[int, DayState]]:
        """The days before a date, oldest first, with their states."""
        days = schema.settlement_day
        query = select(days.c.date, days.c.state).where(days.c.date < before)
        with store.reading(self.engine) as connection:
            return [(row[0], DayState(row[1])) for row in connection.execute(query.order_by(days.c.date))]

    def unrolled(self, before: int) -> list[tuple[int, DayState]]:
        """The days before a date that have not rolled, oldest first, with their states."""
        return [(date, state) for date, state in self.days(before) if state != DayState.ROLLED]

    def traders(self, date: int) -> list[int]:
        """The accounts that dealt on the day."""
        table = schema.clearing
        with store.reading(self.engine) as connection:
            query = select(table.c.account).where(table.c.date == date).distinct().order_by(table.c.account)
            return list(connection.execute(query).scalars())

    def step(self, date: int, event: DayEvent, time_ns: int) -> Refused | None:
        """Move the day by an event of the state table."""
        with store.writing(self.engine) as connection:
            return self._step(connection, date, event, time_ns)

    @staticmethod
    def _step(connection: Connection, date: int, event: DayEvent, time_ns: int) -> Refused | None:
        row = _day_row(connection, date)
        if row is None:
            return Refused(BAD_FIELD, "date", f"{date} has no settlement")
        to = next_day(DayState(row.state), event)
        if to is None:
            return Refused(WRONG_STATE, "date", f"{date} is {row.state}: {event} is not possible")
        table = schema.settlement_day
        connection.execute(update(table).where(table.c.date == date).values(state=to.value, time_ns=time_ns))
        return None


# From these states on, delivery has run to its end: calling it again does nothing.
_DELIVERED: Final = frozenset(
    state.value
    for state in (
        DayState.SETTLED,
        DayState.HELD,
        DayState.RECONCILED,
        DayState.DIFFERENT,
        DayState.RELEASED,
        DayState.ROLLED,
    )
)


class _Proceeds:
    """What sellers of held deals may have spent already (T+0 cash, R5.5): the reserve covers up to that (D26), and is
    paid back first from what such a seller receives. Held deals of days that were released count as well."""

    def __init__(self, connection: Connection, anything: bool = False) -> None:
        self.anything = anything  # an operator has decided that the reserve pays whatever lacks (R12.5)
        deal, held, account = schema.deal, schema.held_deal, schema.ledger_account
        query = (
            select(deal.c.seller, func.sum(deal.c.amount_fen - deal.c.seller_fee_fen))
            .join(held, held.c.deal_id == deal.c.deal_id)
            .where(held.c.state == DealState.HELD.value)
            .group_by(deal.c.seller)
        )
        self._unpaid = {int(row[0]): int(row[1]) for row in connection.execute(query)}
        owing = select(account.c.owner).where(
            account.c.bucket == OWED,
            account.c.owner.in_(self._unpaid),
            account.c.credits_posted > account.c.debits_posted,
        )
        self.debtors: set[int] = set(connection.execute(owing).scalars()) if self._unpaid else set()

    def hold(self, seller: int, amount_fen: int) -> None:
        """One more deal is held; its seller has no proceeds."""
        self._unpaid[seller] = self._unpaid.get(seller, 0) + amount_fen

    def covers(self, buyer: int, owed_fen: int, shortfall_fen: int) -> bool:
        """Whether the reserve pays the shortfall of a buyer who owes it so much already."""
        return self.anything or owed_fen + shortfall_fen <= self._unpaid.get(buyer, 0)

    def note_debt(self, account: int, owed_fen: int) -> None:
        """What an account owes after a cover or a repayment. Only a seller of held deals pays back out of what it
        receives: a debt of another origin is claimed by an act of its own (R12.5)."""
        if owed_fen and account in self._unpaid:
            self.debtors.add(account)
        else:
            self.debtors.discard(account)

    @property
    def any(self) -> bool:
        return self.anything or bool(self._unpaid)


def _preload(posting: Posting, block: Deals) -> None:
    sellers = np.unique(block[["seller", "instrument"]])
    posting.load({*np.unique(block["buyer"]).tolist(), *np.unique(block["seller"]).tolist(), SYSTEM})
    givers = [posting.account(int(row["seller"]), row["instrument"].decode("ascii"), TRADING) for row in sellers]
    posting.preload_ranges(givers)


def _post_all(posting: Posting, block: Deals, proceeds: _Proceeds) -> list[tuple[int, str]]:
    """Post the block's deals in order; returns (deal id, reason) of those that could not post.

    In bulk up to the first that needs a look of its own (an account cannot give, or a seller owes the reserve), that
    one alone, and on. After a stop the next stretch is as long as two of the last: the cost of looking ahead stays
    in proportion to what is posted, whether one deal of the day is held or every tenth.
    """
    held: list[tuple[int, str]] = []
    at, size = 0, len(block)
    while at < len(block):
        part = block[at : at + size]
        done = _deliver_part(posting, part[: _before_debtor(part, proceeds.debtors)]) if len(part) >= _BULK_MIN else 0
        at += done
        if done == len(part):
            size *= 2
            continue
        alone = 1 if done >= _BULK_MIN else _BULK_MIN  # where stops are this dense, columns cost more than they save
        held += [row for row in _post_block(posting, block[at : at + alone], proceeds) if row is not None]
        at += alone
        size = max(_BULK_MIN, 2 * done)
    return held


def _before_debtor(block: Deals, debtors: set[int]) -> int:
    """How many deals stand before the first sale of one of the debtors."""
    if not debtors:
        return len(block)
    where = np.flatnonzero(np.isin(block["seller"], list(debtors)))
    return int(where[0]) if len(where) else len(block)


def _deliver_part(posting: Posting, block: Deals) -> int:
    """Post deals in bulk up to the first that cannot post; how many."""
    if not len(block):
        return 0
    codes, code = np.unique(block["instrument"], return_inverse=True)
    seller, buyer = (block[side].astype(np.int64) for side in ("seller", "buyer"))
    keys, held = np.unique(np.concatenate([seller, buyer]) * len(codes) + np.tile(code, 2), return_inverse=True)
    owners, paid = np.unique(np.concatenate([buyer, seller]), return_inverse=True)
    names, count = [name.decode("ascii") for name in codes.tolist()], len(block)
    holders = [posting.account(key // len(codes), names[key % len(codes)], TRADING) for key in keys.tolist()]
    cash = [posting.account(owner, CNY, CASH) for owner in owners.tolist()]
    terms = (block[name] for name in ("quantity_t", "amount_fen", "buyer_fee_fen", "seller_fee_fen"))
    deals = block["deal_id"].astype(np.int64)
    columns = DealColumns(deals, held[:count], held[count:], paid[:count], paid[count:], *terms)
    return posting.deliver(columns, holders, cash, posting.account(SYSTEM, CNY, FEES))


def _post_block(posting: Posting, block: Deals, proceeds: _Proceeds) -> Iterator[tuple[int, str] | None]:
    """Post each deal of the block; yields None, or (deal id, reason) where the pair could not post."""
    account, find = posting.account, posting.accounts
    fees = account(SYSTEM, CNY, FEES)
    codes = {code: code.decode("ascii") for code in np.unique(block["instrument"]).tolist()}
    columns = (
        "deal_id",
        "instrument",
        "quantity_t",
        "amount_fen",
        "buyer",
        "seller",
        "buyer_fee_fen",
        "seller_fee_fen",
    )
    for deal, raw, quantity, amount, buyer, seller, buyer_fee, seller_fee in zip(
        *(block[name].tolist() for name in columns), strict=True
    ):
        code = codes[raw]
        giver, taker = find.get((seller, code, TRADING)), find.get((buyer, code, TRADING))
        giver, taker = giver or account(seller, code, TRADING), taker or account(buyer, code, TRADING)
        cash = find.get((buyer, CNY, CASH)) or account(buyer, CNY, CASH)
        proceeds_to = find.get((seller, CNY, CASH)) or account(seller, CNY, CASH)
        legs = [Leg(giver, taker, quantity, ActKind.DEAL), Leg(cash, proceeds_to, amount, ActKind.DEAL)]
        numbers = [ALLOWANCE, PAYMENT]
        if buyer_fee:
            legs.append(Leg(cash, fees, buyer_fee, ActKind.DEAL))
            numbers.append(BUYER_FEE)
        if seller_fee:
            legs.append(Leg(proceeds_to, fees, seller_fee, ActKind.DEAL))
            numbers.append(SELLER_FEE)
        shortfall = amount + buyer_fee - cash.available
        if shortfall > 0 and proceeds.any:
            _add_cover(posting, legs, numbers, buyer, shortfall, proceeds)
        refused = posting.chain(deal, legs, numbers)
        if refused is None:
            if COVER in numbers:
                proceeds.note_debt(buyer, account(buyer, CNY, OWED).posted)
            _repay(posting, deal, seller, amount - seller_fee, proceeds)
            yield None
        else:
            proceeds.hold(seller, amount - seller_fee)
            yield deal, f"{refused.field}: {refused.reason}"


def _add_cover(
    posting: Posting, legs: list[Leg], numbers: list[int], buyer: int, shortfall: int, proceeds: _Proceeds
) -> None:
    """Let the reserve pay what the buyer lacks, before the deal's own legs, if the rules allow it."""
    owed = posting.account(buyer, CNY, OWED)
    if not proceeds.covers(buyer, owed.posted, shortfall):
        return
    reserve, claims = posting.account(SYSTEM, CNY, RESERVE), posting.account(SYSTEM, CNY, CLAIMS)
    legs[:0] = [
        Leg(reserve, posting.account(buyer, CNY, CASH), shortfall, ActKind.COVER),
        Leg(claims, owed, shortfall, ActKind.COVER),
    ]
    numbers[:0] = [COVER, COVER_OWED]


def _repay(posting: Posting, deal: int, seller: int, received: int, proceeds: _Proceeds) -> None:
    """Proceeds of a seller of held deals who owes the reserve go to the reserve first."""
    if seller not in proceeds.debtors:
        return
    owed = posting.account(seller, CNY, OWED)
    amount = min(owed.posted, received)
    if amount > 0:
        reserve, claims = posting.account(SYSTEM, CNY, RESERVE), posting.account(SYSTEM, CNY, CLAIMS)
        legs = [
            Leg(posting.account(seller, CNY, CASH), reserve, amount, ActKind.REPAY),
            Leg(owed, claims, amount, ActKind.REPAY),
        ]
        refused = posting.chain(deal, legs, (REPAY, REPAY_OWED))
        assert refused is None, "the proceeds have just come in"
        proceeds.note_debt(seller, owed.posted)


def _of_day(column: Any, date: int) -> tuple[Any, Any]:
    first = date * (DEALS_PER_DAY_MAX + 1)
    return column > first, column <= first + DEALS_PER_DAY_MAX


def _last_deal(connection: Connection, date: int) -> int:
    column = schema.deal.c.deal_id
    return connection.execute(select(func.max(column)).where(*_of_day(column, date))).scalar_one_or_none() or 0


def _read_deals(connection: Connection, date: int, after: int, limit: int) -> Deals:
    """Up to ``limit`` stored deals of the day with id > ``after``, as DEAL records."""
    rows = store.fetch_rows(connection, _READ_DEALS, (after, (date + 1) * (DEALS_PER_DAY_MAX + 1), limit))
    block = np.zeros(len(rows), dtype=DEAL)
    for name, values in zip(_STORED, zip(*rows, strict=True), strict=False):
        block[name] = np.array(values, dtype=DEAL[name])
    return block


def _day_row(connection: Connection, date: int) -> Row | None:
    table = schema.settlement_day
    return connection.execute(select(table).where(table.c.date == date)).one_or_none()


def _held_query(date: int) -> Any:
    table = schema.held_deal
    return select(table).where(*_of_day(table.c.deal_id, date)).order_by(table.c.deal_id)


def _held_row(connection: Connection, deal: int) -> Row | None:
    table = schema.held_deal
    return connection.execute(select(table).where(table.c.deal_id == deal)).one_or_none()


def _mark(connection: Connection, deal: int, state: DealState, reason: str, time_ns: int) -> None:
    table = schema.held_deal
    values = {"state": state.value, "reason": reason, "time_ns": time_ns}
    connection.execute(update(table).where(table.c.deal_id == deal).values(**values))


def _wrong(day: Day) -> Refused:
    return Refused(WRONG_STATE, "date", f"{day.date} is {day.state}")
