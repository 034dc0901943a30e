"""What every act of the registry has in common: look up, check, post, record, answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, bindparam, select
from sqlalchemy.engine import Row

from settlement import schema, store
from settlement.errors import (
    ACCOUNT_CLOSED,
    ALREADY_RESOLVED,
    BAD_FIELD,
    DOCUMENT_USED,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_REQUEST,
    Refused,
)
from settlement.kinds import SYSTEM, ActKind, TransferState
from settlement.ledger import Act, Ledger, Leg, Posting, act_id

# One act's quantity or amount: above it a decimal point is misplaced. 10^15 fen = 10 trillion yuan.
AMOUNT_MAX: Final = 10**15
DOCUMENT_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class Posted:
    """An act is in the ledger. ``repeated``: it already was, with the same content, and nothing was done."""

    act: int
    document: str
    batch: int
    repeated: bool = False


_FIND_ACCOUNT: Final = select(schema.registry_account).where(schema.registry_account.c.account == bindparam("account"))

Build = Callable[[Posting], "list[Leg] | Refused"]


class RegistryBase:
    """Database, ledger, and the one way to post an act."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ledger = Ledger(engine)
        self._batch: Posting | None = None

    @contextmanager
    def batch(self, time_ns: int) -> Iterator[Posting]:
        """Acts inside this block share one transaction: all are in the database at its end, or none. A refused
        act posts nothing and the others go on; raise to undo them all. One thread per registry object."""
        assert self._batch is None, "a batch is open already"
        with self.ledger.posting(time_ns) as posting:
            self._batch = posting
            try:
                yield posting
            finally:
                self._batch = None

    def post(self, act: Act, build: Build) -> Posted | Refused:
        """Post one act, in the open batch or in one of its own. Repeating an act does nothing; the same
        document with other content is refused."""
        if self._batch is not None:
            return self.post_in(self._batch, act, build)
        with self.ledger.posting(act.time_ns) as posting:
            return self.post_in(posting, act, build)

    def post_in(self, posting: Posting, act: Act, build: Build) -> Posted | Refused:
        """Post one act in an open batch. ``build`` gives the legs (maybe none) or refuses."""
        refused = document_fault(act.document)
        if refused is not None:
            return refused
        known = posting.find_act(act)
        if known is not None:
            if known[1] != act.content_json():
                return Refused(DOCUMENT_USED, "document", f"{act.document} was used for something else")
            return Posted(act.id, act.document, known[0], repeated=True)
        before = posting.writes_at_end
        legs = build(posting)
        refused = legs if isinstance(legs, Refused) else posting.chain(act.id, legs) if legs else None
        if refused is not None:
            posting.drop_writes(before)  # what the act wanted written at the batch's end goes with it
            return refused
        assert not isinstance(legs, Refused)
        posting.record(act)
        return Posted(act.id, act.document, posting.batch)

    # -- requests that wait for a decision (R13.3)

    def decide(self, kind: ActKind, request: str, approve: bool, document: str, time_ns: int) -> Posted | Refused:
        """End the pending transfers of the act (``kind``, ``request``): post them all or void them all."""
        content = {"kind": int(kind), "request": request, "approve": approve}
        account = self.act_account(act_id(kind, request))
        act = Act(ActKind.DECIDE, document, account, time_ns, content)
        return self.post(act, lambda posting: self.ending_legs(posting, kind, request, approve))

    def ending_legs(self, posting: Posting, kind: ActKind, request: str, approve: bool) -> list[Leg] | Refused:
        """The legs that post or void what the request reserved."""
        table, number = schema.transfer, act_id(kind, request)
        rows = posting.connection.execute(
            select(table).where(table.c.act == number, table.c.state == TransferState.PENDING).order_by(table.c.leg)
        ).all()
        if not rows:
            return Refused(UNKNOWN_REQUEST, "request", f"no {kind.name.lower()} {request} is waiting")
        ended = select(table.c.act).where(table.c.ref_act == number).limit(1)
        if posting.connection.execute(ended).one_or_none() is not None:
            return Refused(ALREADY_RESOLVED, "request", f"{request} was decided before")
        state = TransferState.POST_PENDING if approve else TransferState.VOID_PENDING
        return [
            Leg(posting.by_id(r.debit), posting.by_id(r.credit), r.amount, r.kind, state, (number, r.leg), r.amount)
            for r in rows
        ]

    def has_act(self, kind: ActKind, document: str) -> bool:
        """Whether the act is in the ledger."""
        query = select(schema.act.c.id).where(schema.act.c.id == act_id(kind, document))
        with store.reading(self.engine) as connection:
            return connection.execute(query).scalar_one_or_none() is not None

    def act_account(self, number: int) -> int:
        """The trader that an act concerns (SYSTEM if the act is not known; it is then refused)."""
        query = select(schema.act.c.account).where(schema.act.c.id == number)
        with store.reading(self.engine) as connection:
            found = connection.execute(query).scalar_one_or_none()
        return SYSTEM if found is None else found


def document_fault(document: str) -> Refused | None:
    """Every act has a document number: 1 to 80 printable characters."""
    if not document or len(document) > DOCUMENT_MAX or not document.isprintable():
        return Refused(BAD_FIELD, "document", f"a document number has 1 to {DOCUMENT_MAX} printable characters")
    return None


def amount_fault(field: str, amount: int) -> Refused | None:
    """Amounts and quantities are whole, positive and below AMOUNT_MAX."""
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= AMOUNT_MAX:
        return Refused(BAD_FIELD, field, f"{amount!r} is not a whole number from 1 to {AMOUNT_MAX}")
    return None


def find_account(connection: Connection, account: int) -> Row | None:
    """The real-name account's row."""
    return connection.execute(_FIND_ACCOUNT, {"account": account}).one_or_none()


def account_fault(posting: Posting, account: int, field: str = "account") -> Refused | None:
    """The account must exist and be open. What was found good in this batch is not asked again."""
    if ("account", account) in posting.checked:
        return None
    row = posting.connection.execute(_FIND_ACCOUNT, {"account": account}).one_or_none()
    if row is None:
        return Refused(UNKNOWN_ACCOUNT, field, f"account {account} is not registered")
    if row.state != "open":
        return Refused(ACCOUNT_CLOSED, field, f"account {account} is closed")
    posting.checked.add(("account", account))
    return None


def asset_fault(posting: Posting, asset: str, kind: str | None = None) -> Refused | None:
    """The asset must exist (and be of the kind)."""
    if ("asset", (asset, kind)) in posting.checked:
        return None
    found = posting.connection.execute(
        select(schema.asset.c.kind).where(schema.asset.c.code == asset)
    ).scalar_one_or_none()
    if found is None or found == "money":
        return Refused(UNKNOWN_ASSET, "asset", f"{asset} is not registered")
    if kind is not None and found != kind:
        return Refused(UNKNOWN_ASSET, "asset", f"{asset} is not an {kind}")
    posting.checked.add(("asset", (asset, kind)))
    return None
