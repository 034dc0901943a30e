"""The double-entry ledger: chains of transfers that post or fail together, sealed batch by batch.

Theory. An account has four sides (credits and debits, posted and pending). A trader's account holds
credits minus debits; what is pending on the debit side is reserved. A **transfer** moves an amount of one
asset from its debit account to its credit account and is never changed. A **pending** transfer reserves; a
later transfer posts or voids it, once. A **chain** is the list of legs of one act: all post, or none. The
key of a transfer is (act, leg), and an act's id follows from what it is (a deal's id, or kind and document),
so the same act can't be posted twice, whoever repeats it.

A ``Posting`` is one database transaction: it locks the head row, reads the accounts it needs, applies chains
in memory and writes everything at its end, with a seal: a BLAKE2b-256 over the batch's rows, chained with
the seal before. ``settlement.verify`` recomputes all of it.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from settlement import schema, store
from settlement.errors import INSUFFICIENT, Refused
from settlement.hours import date_at
from settlement.kinds import (
    CASH,
    CNY,
    FINAL_BUCKETS,
    ISSUER,
    SYSTEM,
    TRADING,
    UNBOUNDED_BUCKETS,
    ActKind,
    TransferState,
)
from settlement.serials import FIRST_LOAD, SERIAL_MAX, DatedRange, Range, RangeWindow, span_class, span_classes

# A side of an account stays well inside int64: 4.6e18 fen is 46,000 times the turnover of the market's life.
SIDE_MAX: Final = 2**62
# Ids of acts other than deals start here; a deal's id stays below (YYYYMMDD x 10^9 < 2^55).
_ACT_BASE: Final = 2**62
_ACT_MASK: Final = 2**61 - 1
# From so many owners on, reading all accounts of the two busy buckets is cheaper than naming them.
_OWNERS_BY_NAME_MAX: Final = 300

GENESIS: Final = hashlib.blake2b(b"cea-exchange registry", digest_size=32).digest()

TRANSFER_ROW: Final = np.dtype(
    [(name, "<i8") for name in ("act", "leg", "debit", "credit", "amount", "kind", "state", "ref_act", "ref_leg")]
)
MOVE_ROW: Final = np.dtype([(name, "<i8") for name in ("act", "leg", "piece", "first", "last")] + [("asset", "S16")])

_TRANSFER_COLUMNS: Final = (*(TRANSFER_ROW.names or ()), "batch")
_MOVE_COLUMNS: Final = ("act", "leg", "piece", "first", "last", "asset", "span", "batch")

# Prepared once: building a statement costs SQLAlchemy more than SQLite needs to run it.
_FIND_ACT: Final = select(schema.act.c.batch, schema.act.c.content).where(schema.act.c.id == bindparam("id"))
_FIND_LEDGER_ACCOUNT: Final = select(schema.ledger_account).where(
    *(schema.ledger_account.c[name] == bindparam(name) for name in ("owner", "asset", "bucket"))
)


@lru_cache(maxsize=256)
def act_id(kind: ActKind, document: str) -> int:
    """The id of an act other than a deal: the same act has the same id on every machine, in every run."""
    name = f"{int(kind)}:{document}".encode()
    return _ACT_BASE | (int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") & _ACT_MASK)


class Balance:
    """One ledger account in memory: ``credits_posted - debits_posted`` is what it holds."""

    __slots__ = (
        "asset",
        "bucket",
        "credits_pending",
        "credits_posted",
        "debits_pending",
        "debits_posted",
        "dirty",
        "final",
        "id",
        "owner",
        "unbounded",
        "window",
    )

    def __init__(self, row: Sequence[Any]) -> None:
        self.id: int = row[0]
        self.owner: int = row[1]
        self.asset: str = row[2]
        self.bucket: str = row[3]
        self.unbounded = bool(row[4])
        self.final = bool(row[5])
        self.credits_posted: int = row[6]
        self.debits_posted: int = row[7]
        self.credits_pending: int = row[8]
        self.debits_pending: int = row[9]
        self.dirty = False
        self.window: RangeWindow | None = None

    @property
    def posted(self) -> int:
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        return self.credits_posted - self.debits_posted - self.debits_pending

    def name(self) -> str:
        return f"account {self.owner}, {self.asset}, {self.bucket}"


class Leg(NamedTuple):
    """One transfer of a chain. ``ref`` names the pending transfer that a POST_ or VOID_PENDING ends."""

    debit: Balance
    credit: Balance
    amount: int
    kind: int
    state: int = TransferState.POSTED
    ref: tuple[int, int] | None = None
    reserved: int = 0  # amount of the pending transfer, where this ends one


class DealColumns(NamedTuple):
    """A block of deals for ``Posting.deliver``: accounts as positions in lists of balances, terms as int64."""

    deal: np.ndarray
    giver: np.ndarray  # of the allowances
    taker: np.ndarray
    payer: np.ndarray
    payee: np.ndarray
    quantity: np.ndarray
    amount: np.ndarray
    buyer_fee: np.ndarray
    seller_fee: np.ndarray


_DEAL: Final = int(ActKind.DEAL)
_POSTED: Final = int(TransferState.POSTED)


@dataclass(frozen=True, slots=True)
class Act:
    """What is asked for: kind, document number, the trader it concerns, and the request's content."""

    kind: ActKind
    document: str
    account: int
    time_ns: int
    content: Mapping[str, Any]

    @property
    def id(self) -> int:
        return act_id(self.kind, self.document)

    def content_json(self) -> str:
        return json.dumps(self.content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def columnar(dtype: np.dtype, rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """Rows (longer ones are cut) as a structured array, column by column; None counts as 0."""
    names = dtype.names or ()
    array = np.zeros(len(rows), dtype=dtype)
    for name, values in zip(names, zip(*rows, strict=True), strict=False) if rows else ():
        if dtype[name].kind == "S":
            array[name] = np.array(values, dtype=dtype[name].str.replace("S", "U")).astype(dtype[name])
        elif name.startswith("ref_"):
            array[name] = 0 if not any(values) else [value or 0 for value in values]
        else:
            array[name] = values
    return array


def seal_digest(previous: bytes, transfers: np.ndarray, moves: np.ndarray, acts: Iterable[tuple[int, str]]) -> bytes:
    """BLAKE2b-256 over the previous seal, the batch's rows in order of (act, leg, piece), and its acts."""
    digest = hashlib.blake2b(previous, digest_size=32)
    digest.update(transfers[np.lexsort((transfers["leg"], transfers["act"]))].tobytes())
    digest.update(moves[np.lexsort((moves["piece"], moves["leg"], moves["act"]))].tobytes())
    for number, content in sorted(acts):
        digest.update(number.to_bytes(8, "big") + content.encode())
    return digest.digest()


class Posting:
    """One transaction on the ledger; see the module's text. Use ``Ledger.posting``."""

    def __init__(self, connection: Connection, time_ns: int, day: int) -> None:
        self.connection = connection
        self.time_ns = time_ns
        self.day = day
        row = connection.execute(select(schema.head).with_for_update()).one()
        self.batch = row.batch + 1
        self._previous = bytes(row.digest)
        self._next_account = row.next_ledger_account
        self._first_new_account = row.next_ledger_account
        self.accounts: dict[tuple[int, str, str], Balance] = {}
        self._loaded_owners: set[int] = set()
        self._busy_buckets_loaded = False
        self._assets: dict[str, list[int]] = {}  # code -> [next serial now, as stored]
        self._transfers: list[tuple[Any, ...]] = []
        self._delivered: list[tuple[np.ndarray, np.ndarray]] = []  # (TRANSFER_ROW, MOVE_ROW) of ``deliver``
        self._pieces = 0
        self._moves: list[tuple[Any, ...]] = []
        self._acts: list[tuple[Any, ...]] = []
        self._final: list[Callable[[Connection], None]] = []
        self._known_acts: dict[int, tuple[int, str]] | None = None
        self._cuts: bool | None = None
        self.checked: set[tuple[str, object]] = set()  # accounts and assets found good; see base.py

    # -- accounts

    def load(self, owners: Iterable[int]) -> None:
        """Read the ledger accounts of the owners in one go (else each is read when first used)."""
        wanted = set(owners) - self._loaded_owners
        if not wanted or (self._busy_buckets_loaded and len(wanted) > _OWNERS_BY_NAME_MAX):
            return
        table = schema.ledger_account
        query = select(table)
        if len(wanted) <= _OWNERS_BY_NAME_MAX:
            query = query.where(table.c.owner.in_(wanted))
        else:
            query = query.where(table.c.bucket.in_((TRADING, CASH)) | (table.c.owner.in_((SYSTEM,))))
        for row in self.connection.execute(query):
            self.accounts.setdefault((row[1], row[2], row[3]), Balance(row))
        if len(wanted) <= _OWNERS_BY_NAME_MAX:
            self._loaded_owners |= wanted
        else:
            self._busy_buckets_loaded = True

    def preload_owners(self, owners: Iterable[int]) -> None:
        """Read all ledger accounts of the owners of an import, and note which real-name accounts are open."""
        wanted = sorted(set(owners))
        accounts = schema.registry_account
        for at in range(0, len(wanted), _OWNERS_BY_NAME_MAX):
            part = wanted[at : at + _OWNERS_BY_NAME_MAX]
            self.load(part)
            query = select(accounts.c.account).where(accounts.c.account.in_(part), accounts.c.state == "open")
            self.checked.update(("account", account) for account in self.connection.execute(query).scalars())

    def account(self, owner: int, asset: str, bucket: str) -> Balance:
        """The ledger account, read or created."""
        key = (owner, asset, bucket)
        found = self.accounts.get(key)
        if found is None:
            found = self._read(key)
        return found

    def _read(self, key: tuple[int, str, str]) -> Balance:
        row: Any = None
        known = key[0] in self._loaded_owners or (self._busy_buckets_loaded and key[2] in (TRADING, CASH))
        if not known:
            names = {"owner": key[0], "asset": key[1], "bucket": key[2]}
            row = self.connection.execute(_FIND_LEDGER_ACCOUNT, names).one_or_none()
        if row is None:
            unbounded, final = int(key[2] in UNBOUNDED_BUCKETS), int(key[2] in FINAL_BUCKETS)
            row = (self._next_account, *key, unbounded, final, 0, 0, 0, 0)
            self._next_account += 1
        self.accounts[key] = balance = Balance(row)
        return balance

    def by_id(self, number: int) -> Balance:
        """The ledger account with this id; it must exist."""
        table = schema.ledger_account
        row = self.connection.execute(select(table).where(table.c.id == number)).one()
        return self.accounts.setdefault((row[1], row[2], row[3]), Balance(row))

    def preload_ranges(self, balances: Iterable[Balance]) -> None:
        """Read the lowest serial ranges of accounts that are about to give."""
        fresh = [b for b in balances if b.window is None and b.id < self._first_new_account]
        rows = store.first_ranges(self.connection, [b.id for b in fresh], FIRST_LOAD)
        for balance in fresh:
            self._window(balance).preload(rows[balance.id], FIRST_LOAD)

    def _window(self, balance: Balance) -> RangeWindow:
        if balance.window is None:
            number = balance.id

            def load(after: tuple[int, int], limit: int) -> list[DatedRange]:
                return store.load_ranges(self.connection, number, after, limit)

            balance.window = RangeWindow(load)
        return balance.window

    # -- posting

    def find_act(self, act: Act) -> tuple[int, str] | None:
        """(batch, content) of an act that is already in the ledger."""
        if self._known_acts is not None and act.id in self._known_acts:
            return self._known_acts[act.id]
        if self._known_acts is not None:
            return None
        row = self.connection.execute(_FIND_ACT, {"id": act.id}).one_or_none()
        return None if row is None else (row[0], row[1])

    def preload_acts(self, acts: Iterable[int]) -> None:
        """Look up all the acts of an import at once; ``find_act`` then knows them and those recorded since."""
        self._known_acts = {}
        numbers = list(acts)
        for at in range(0, len(numbers), _OWNERS_BY_NAME_MAX):
            table = schema.act
            part = numbers[at : at + _OWNERS_BY_NAME_MAX]
            query = select(table.c.id, table.c.batch, table.c.content).where(table.c.id.in_(part))
            self._known_acts.update((row[0], (row[1], row[2])) for row in self.connection.execute(query))

    def has_cuts(self) -> bool:
        """Whether any allocation cut is still to be applied; asked once a batch."""
        if self._cuts is None:
            cut = schema.allocation_cut
            query = select(cut.c.account).where(cut.c.applied_t < cut.c.quantity_t).limit(1)
            self._cuts = self.connection.execute(query).one_or_none() is not None
        return self._cuts

    def record(self, act: Act) -> None:
        """Keep the act itself, as the voucher of its transfers."""
        if self._known_acts is not None:
            self._known_acts[act.id] = (self.batch, act.content_json())
        self._acts.append(
            (act.id, int(act.kind), act.document, act.content_json(), act.account, act.time_ns, self.batch)
        )

    def chain(self, act: int, legs: Sequence[Leg], numbers: Sequence[int] | None = None) -> Refused | None:
        """Apply the legs in order, all or none. The refusal names the account that could not give.
        ``numbers``: the legs' numbers within the act, where they are not 0, 1, 2, …"""
        for position, leg in enumerate(legs):
            refused = self._apply(leg)
            if refused is not None:
                for done in reversed(legs[:position]):
                    self._undo(done)
                return refused
        for position, leg in enumerate(legs):
            number = position if numbers is None else numbers[position]
            ref_act, ref_leg = leg.ref if leg.ref is not None else (None, None)
            self._transfers.append(
                (
                    act,
                    number,
                    leg.debit.id,
                    leg.credit.id,
                    leg.amount,
                    leg.kind,
                    leg.state,
                    ref_act,
                    ref_leg,
                    self.batch,
                )
            )
            if leg.debit.asset != CNY and leg.state in (TransferState.POSTED, TransferState.POST_PENDING):
                self._move_serials(act, number, leg.debit, leg.credit, leg.amount)
        return None

    def deliver(self, deals: DealColumns, holders: Sequence[Balance], cash: Sequence[Balance], fees: Balance) -> int:
        """Both legs and the fees of a block's deals up to the first that cannot post, since one of its accounts
        (``holders``: allowances, ``cash``: money) cannot give what it should at its turn. Returns how many were
        posted; the same rows as ``chain`` posts, at a tenth of its cost."""
        if not len(deals.deal) or float(deals.amount.sum(dtype=np.float64)) > SIDE_MAX // 4:
            return 0  # in sums of int64 nothing below may overflow
        paid, received = deals.amount + deals.buyer_fee, deals.amount - deals.seller_fee
        count = min(
            _first_below_zero(holders, deals.giver, deals.taker, deals.quantity, deals.quantity),
            _first_below_zero(cash, deals.payer, deals.payee, paid, received),
        )
        if not count:
            return 0
        if count < len(deals.deal):
            deals = DealColumns(*(column[:count] for column in deals))
        assert (deals.giver != deals.taker).all() and (deals.payer != deals.payee).all()
        _book(holders, deals.giver, deals.taker, deals.quantity)
        _book(cash, deals.payer, deals.payee, deals.amount)
        nobody = np.full(1, len(cash))  # the fee account stands behind the others
        for side, fee in ((deals.payer, deals.buyer_fee), (deals.payee, deals.seller_fee)):
            _book((*cash, fees), side, np.broadcast_to(nobody, len(side)), fee)
        self._delivered.append((_deal_rows(deals, holders, cash, fees), self._deal_moves(deals, holders)))
        return count

    def _deal_moves(self, deals: DealColumns, holders: Sequence[Balance]) -> np.ndarray:
        windows = [balance.window or self._window(balance) for balance in holders]
        rows: list[tuple[int, int, int]] = []
        day = self.day
        terms = (deals.giver.tolist(), deals.taker.tolist(), deals.quantity.tolist())
        for at, (giver, taker, quantity) in enumerate(zip(*terms, strict=True)):
            pieces = windows[giver].take(quantity)
            windows[taker].put(day, pieces)
            for first, last in pieces:
                rows.append((at, first, last))
        found = np.array(rows, dtype=np.int64)
        moves = np.zeros(len(rows), dtype=MOVE_ROW)
        moves["act"] = deals.deal[found[:, 0]]
        moves["piece"] = np.arange(self._pieces, self._pieces + len(rows))
        moves["first"], moves["last"] = found[:, 1], found[:, 2]
        assets = np.array([balance.asset for balance in holders], dtype="S16")
        moves["asset"] = assets[deals.giver[found[:, 0]]]
        self._pieces += len(rows)
        return moves

    def _apply(self, leg: Leg) -> Refused | None:
        debit, credit, amount = leg.debit, leg.credit, leg.amount
        assert amount > 0 and debit is not credit and debit.asset == credit.asset
        if leg.state <= TransferState.PENDING:
            if not debit.unbounded and debit.credits_posted - debit.debits_posted - debit.debits_pending < amount:
                unit = "fen" if debit.asset == CNY else "t"
                return Refused(
                    INSUFFICIENT, debit.name(), f"{debit.available} {unit} available, {amount} {unit} needed"
                )
            assert not debit.final, "a final account gives nothing"
            assert credit.credits_posted + credit.credits_pending + amount < SIDE_MAX, "a side would overflow"
        debit.dirty = credit.dirty = True
        if leg.state == TransferState.POSTED:
            debit.debits_posted += amount
            credit.credits_posted += amount
        elif leg.state == TransferState.PENDING:
            debit.debits_pending += amount
            credit.credits_pending += amount
        else:
            debit.debits_pending -= leg.reserved
            credit.credits_pending -= leg.reserved
            if leg.state == TransferState.POST_PENDING:
                assert amount <= leg.reserved
                debit.debits_posted += amount
                credit.credits_posted += amount
        return None

    def _undo(self, leg: Leg) -> None:
        debit, credit, amount = leg.debit, leg.credit, leg.amount
        if leg.state in (TransferState.POSTED, TransferState.POST_PENDING):
            debit.debits_posted -= amount
            credit.credits_posted -= amount
        if leg.state == TransferState.PENDING:
            debit.debits_pending -= amount
            credit.credits_pending -= amount
        elif leg.state >= TransferState.POST_PENDING:
            debit.debits_pending += leg.reserved
            credit.credits_pending += leg.reserved

    def _move_serials(self, act: int, number: int, debit: Balance, credit: Balance, amount: int) -> None:
        asset = debit.asset
        if debit.bucket == ISSUER:
            pieces = [self._new_serials(asset, amount)]
        else:
            pieces = (debit.window or self._window(debit)).take(amount)
        if credit.bucket != ISSUER:
            (credit.window or self._window(credit)).put(self.day, pieces)
        # Pieces are numbered through the batch: that is the order in which serials moved.
        for piece, (first, last) in enumerate(pieces, start=self._pieces):
            self._moves.append((act, number, piece, first, last, asset, span_class(first, last), self.batch))
        self._pieces += len(pieces)

    def _counter(self, asset: str) -> list[int]:
        counter = self._assets.get(asset)
        if counter is None:
            code = schema.asset.c.code
            stored = self.connection.execute(select(schema.asset.c.next_serial).where(code == asset)).scalar_one()
            counter = self._assets[asset] = [stored, stored]
        return counter

    def serials_left(self, asset: str) -> int:
        """How many tonnes of the asset can still be issued: a serial has twelve digits."""
        return SERIAL_MAX - self._counter(asset)[0]

    def _new_serials(self, asset: str, quantity: int) -> Range:
        counter = self._counter(asset)
        first = counter[0]
        counter[0] += quantity
        assert counter[0] <= SERIAL_MAX, "serial numbers of the asset are used up"
        return first, counter[0] - 1

    def at_end(self, write: Callable[[Connection], None]) -> None:
        """Run ``write`` after the batch's rows are in, in the same transaction."""
        self._final.append(write)

    @property
    def writes_at_end(self) -> int:
        """How many writes wait for the batch's end."""
        return len(self._final)

    def drop_writes(self, before: int) -> None:
        """Forget the writes that were added since there were ``before``."""
        del self._final[before:]

    # -- writing

    @property
    def empty(self) -> bool:
        return not (self._transfers or self._delivered or self._acts or self._final)

    def flush(self) -> None:
        """Write everything that was applied, and the seal. Called once, by ``Ledger.posting``."""
        if self.empty:
            return
        self._write_accounts()
        self._write_ranges()
        connection = self.connection
        columns = [column.name for column in schema.act.c]
        store.insert_rows(connection, schema.act, columns, self._acts)
        store.insert_rows(connection, schema.transfer, _TRANSFER_COLUMNS, self._transfers)
        store.insert_rows(connection, schema.serial_move, _MOVE_COLUMNS, self._moves)
        for transfers, moves in self._delivered:
            fixed: dict[str, Any] = {"ref_act": None, "ref_leg": None, "batch": self.batch}
            store.insert_columns(connection, schema.transfer, {**_columns(transfers), **fixed})
            spans = {"span": span_classes(moves["first"], moves["last"]), "batch": self.batch}
            store.insert_columns(connection, schema.serial_move, {**_columns(moves), **spans})
        for code, (now, stored) in self._assets.items():
            if now != stored:
                connection.execute(update(schema.asset).where(schema.asset.c.code == code).values(next_serial=now))
        for write in self._final:
            write(connection)
        digest = self._previous
        if self._transfers or self._delivered or self._acts:
            digest = self._seal()
        else:
            self.batch -= 1
        connection.execute(
            update(schema.head).values(batch=self.batch, digest=digest, next_ledger_account=self._next_account)
        )

    def forget(self) -> None:
        """Let go of the batch's rows and ranges at once: windows and posting refer to each other, and with the
        collector at rest a settlement would keep several blocks in memory."""
        for balance in self.accounts.values():
            balance.window = None
        for rows in (self._transfers, self._delivered, self._moves, self._acts, self._final):
            rows.clear()  # type: ignore[attr-defined]
        self.accounts.clear()

    def _seal(self) -> bytes:
        transfers = np.concatenate([columnar(TRANSFER_ROW, self._transfers), *(rows for rows, _ in self._delivered)])
        moves = np.concatenate([columnar(MOVE_ROW, self._moves), *(rows for _, rows in self._delivered)])
        digest = seal_digest(
            self._previous, transfers, moves, [(row[0], f"{row[2]}|{row[3]}|{row[4]}|{row[5]}") for row in self._acts]
        )
        self.connection.execute(
            insert(schema.seal).values(
                batch=self.batch, time_ns=self.time_ns, transfers=len(transfers), moves=len(moves), digest=digest
            )
        )
        return digest

    def _write_accounts(self) -> None:
        new: list[tuple[Any, ...]] = []
        changed: list[tuple[int, int, int, int, int]] = []
        for b in self.accounts.values():
            sides = (b.credits_posted, b.debits_posted, b.credits_pending, b.debits_pending)
            if b.id >= self._first_new_account:
                new.append((b.id, b.owner, b.asset, b.bucket, int(b.unbounded), int(b.final), *sides))
            elif b.dirty:
                changed.append((*sides, b.id))
        columns = [column.name for column in schema.ledger_account.c]
        store.insert_rows(self.connection, schema.ledger_account, columns, new)
        store.update_balances(self.connection, changed)

    def _write_ranges(self) -> None:
        gone: list[tuple[int, int, int]] = []
        new: list[tuple[int, int, int, int, str]] = []
        for b in self.accounts.values():
            if b.window is not None:
                deleted, inserted = b.window.changes()
                gone.extend((b.id, day, first) for day, first, _ in deleted)
                new.extend((b.id, *row, b.asset) for row in inserted)
        store.delete_ranges(self.connection, gone)
        names = ("account", "day", "first", "last")
        columns: dict[str, Any] = {
            n: np.array(c, np.int64) for n, c in zip(names, zip(*new, strict=True), strict=False)
        }
        if new:
            columns["asset"] = np.array([row[4] for row in new], dtype="S16")
            store.insert_columns(self.connection, schema.holding_range, columns)


def _first_below_zero(
    balances: Sequence[Balance], giver: np.ndarray, taker: np.ndarray, out: np.ndarray, into: np.ndarray
) -> int:
    """The first deal at which an account, starting from what is available, would fall below zero after every
    deal in turn; the number of deals where none would."""
    count = len(giver)
    who = np.concatenate([giver, taker])
    # Stable, and the deals stand in order twice: per account its deals are in order, giving or taking.
    order = np.lexsort((np.concatenate([np.arange(count)] * 2), who))
    who, change = who[order], np.concatenate([-out, into])[order]
    firsts = np.flatnonzero(np.diff(who, prepend=-1))
    start = np.array([balance.available for balance in balances], dtype=np.int64)
    running = np.cumsum(change)
    before = np.where(firsts > 0, running[firsts - 1], 0)
    sizes = np.diff(np.append(firsts, len(who)))
    below = order[running - np.repeat(before, sizes) + start[who] < 0] % count
    return int(below.min()) if len(below) else count


def _book(balances: Sequence[Balance], debit: np.ndarray, credit: np.ndarray, amount: np.ndarray) -> None:
    """Add the amounts to the posted sides."""
    debits, credits = np.zeros(len(balances), dtype=np.int64), np.zeros(len(balances), dtype=np.int64)
    np.add.at(debits, debit, amount)
    np.add.at(credits, credit, amount)
    for balance, out, into in zip(balances, debits.tolist(), credits.tolist(), strict=True):
        if out or into:
            assert balance.credits_posted + into < SIDE_MAX, "a side would overflow"
            balance.debits_posted += out
            balance.credits_posted += into
            balance.dirty = True


def _deal_rows(deals: DealColumns, holders: Sequence[Balance], cash: Sequence[Balance], fees: Balance) -> np.ndarray:
    """The deals' transfers: allowances, money, the buyer's and the seller's fee where there is one."""
    holder_ids = np.array([balance.id for balance in holders], dtype=np.int64)
    cash_ids = np.array([balance.id for balance in cash], dtype=np.int64)
    payer, payee = cash_ids[deals.payer], cash_ids[deals.payee]
    legs = (
        (holder_ids[deals.giver], holder_ids[deals.taker], deals.quantity),
        (payer, payee, deals.amount),
        (payer, fees.id, deals.buyer_fee),
        (payee, fees.id, deals.seller_fee),
    )
    rows = np.zeros((len(deals.deal), len(legs)), dtype=TRANSFER_ROW)
    rows["act"], rows["kind"], rows["state"] = deals.deal[:, None], _DEAL, _POSTED
    for number, (debit, credit, amount) in enumerate(legs):
        leg = rows[:, number]
        leg["leg"], leg["debit"], leg["credit"], leg["amount"] = number, debit, credit, amount
    flat = rows.reshape(-1)
    return flat[flat["amount"] > 0]


def _columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: rows[name] for name in rows.dtype.names or ()}


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """A batch makes many objects and no cycles: looking for cycles among them takes a fifth of its time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class Ledger:
    """The ledger of one database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def posting(self, time_ns: int, day: int | None = None) -> Iterator[Posting]:
        """One batch: what is chained inside the block is written and committed at its end; an exception
        writes nothing. ``day`` (YYYYMMDD) is when the allowances count as received; default: the date of
        ``time_ns`` in Asia/Shanghai."""
        with store.writing(self.engine) as connection, _collector_at_rest():
            posting = Posting(connection, time_ns, date_at(time_ns) if day is None else day)
            try:
                yield posting
                posting.flush()
            finally:
                posting.forget()
