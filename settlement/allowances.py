"""Acts on allowances: issue, move in and out, freeze, pledge, deduct, cancel (R13.1–R13.3, R13.6, R13.7)."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import select, update

from settlement import schema
from settlement.base import Posted, RegistryBase, account_fault, amount_fault, asset_fault
from settlement.errors import BAD_FIELD, OUTSIDE_HOURS, TOO_MUCH, UNKNOWN_DOCUMENT, Refused
from settlement.hours import TransferHours
from settlement.kinds import (
    CANCELLED,
    DEDUCTED,
    ISSUER,
    JUDICIAL,
    PLEDGED,
    REGISTRY,
    SYSTEM,
    TRADING,
    ActKind,
    TransferState,
)
from settlement.ledger import Act, Leg, Posting, act_id

ISSUE_STEPS: Final = ("pre-allocation", "final", "adjustment")
FREEZABLE: Final = (REGISTRY, TRADING)


class AllowanceActs(RegistryBase):
    """Acts that move allowances between the buckets of accounts."""

    transfer_hours: TransferHours | None = None

    def _move(
        self,
        kind: ActKind,
        giver: tuple[int, str],
        taker: tuple[int, str],
        asset: str,
        quantity: int,
        document: str,
        time_ns: int,
        extra: dict[str, Any] | None = None,
        pending: bool = False,
    ) -> Posted | Refused:
        """One leg from a (owner, bucket) to another, after the checks that all acts share."""
        subject = giver[0] if giver[0] != SYSTEM else taker[0]

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = asset_fault(posting, asset) or amount_fault("quantity", quantity)
            for owner in {giver[0], taker[0]} - {SYSTEM}:
                refused = refused or account_fault(posting, owner)
            if kind in (ActKind.TRANSFER_IN, ActKind.TRANSFER_OUT):
                # Here, not before: repeating a transfer that was posted must work at any hour (D24).
                refused = refused or self._hours_fault(time_ns)
            if refused is not None:
                return refused
            debit, credit = posting.account(giver[0], asset, giver[1]), posting.account(taker[0], asset, taker[1])
            state = TransferState.PENDING if pending else TransferState.POSTED
            return [Leg(debit, credit, quantity, kind, state)]

        content = {"account": subject, "asset": asset, "quantity": quantity, **(extra or {})}
        return self.post(Act(kind, document, subject, time_ns, content), build)

    # -- issue

    def issue(
        self, account: int, asset: str, quantity: int, document: str, time_ns: int, step: str = "pre-allocation"
    ) -> Posted | Refused:
        """Issue allowances with the next serial numbers of the vintage (or register offset credits)."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = (
                asset_fault(posting, asset) or account_fault(posting, account) or amount_fault("quantity", quantity)
            )
            if refused is None and step not in ISSUE_STEPS:
                refused = Refused(BAD_FIELD, "step", f"{step!r} is not one of {', '.join(ISSUE_STEPS)}")
            if refused is not None:
                return refused
            if quantity > posting.serials_left(asset):
                return Refused(BAD_FIELD, "quantity", f"{asset} has {posting.serials_left(asset)} serial numbers left")
            issuer, holder = posting.account(SYSTEM, asset, ISSUER), posting.account(account, asset, REGISTRY)
            rest = quantity - _apply_cut(posting, account, asset, quantity)
            return [Leg(issuer, holder, rest, ActKind.ISSUE)] if rest else []

        content = {"account": account, "asset": asset, "quantity": quantity, "step": step}
        return self.post(Act(ActKind.ISSUE, document, account, time_ns, content), build)

    # -- to and from the trading account

    def _hours_fault(self, time_ns: int) -> Refused | None:
        if self.transfer_hours is None or self.transfer_hours.open_at(time_ns):
            return None
        return Refused(OUTSIDE_HOURS, "time", f"transfers are possible {self.transfer_hours.text()}")

    def move_in(self, account: int, asset: str, quantity: int, document: str, time_ns: int) -> Posted | Refused:
        """转入: from the registry account to the trading account (R13.2); the registry posts first (D24)."""
        return self._move(
            ActKind.TRANSFER_IN, (account, REGISTRY), (account, TRADING), asset, quantity, document, time_ns
        )

    def move_out(self, account: int, asset: str, quantity: int, document: str, time_ns: int) -> Posted | Refused:
        """转出: back to the registry account. The exchange has locked the quantity before it asks (D24)."""
        return self._move(
            ActKind.TRANSFER_OUT, (account, TRADING), (account, REGISTRY), asset, quantity, document, time_ns
        )

    # -- freezes

    def freeze(
        self, account: int, asset: str, quantity: int, document: str, time_ns: int, bucket: str = REGISTRY
    ) -> Posted | Refused:
        """Judicial freeze (R13.7). ``document`` is the court's; ``unfreeze`` and ``deduct`` refer to it."""
        return self._freeze(ActKind.FREEZE, JUDICIAL, account, asset, quantity, document, time_ns, bucket)

    def pledge(
        self, account: int, asset: str, quantity: int, document: str, time_ns: int, bucket: str = REGISTRY
    ) -> Posted | Refused:
        """Freeze in favour of a third party (R13.3)."""
        return self._freeze(ActKind.PLEDGE, PLEDGED, account, asset, quantity, document, time_ns, bucket)

    def _freeze(
        self, kind: ActKind, to: str, account: int, asset: str, quantity: int, document: str, time_ns: int, bucket: str
    ) -> Posted | Refused:
        if bucket not in FREEZABLE:
            return Refused(BAD_FIELD, "bucket", f"{bucket!r} is not one of {', '.join(FREEZABLE)}")
        extra = {"bucket": bucket}
        return self._move(kind, (account, bucket), (account, to), asset, quantity, document, time_ns, extra)

    def unfreeze(self, freeze: str, quantity: int, document: str, time_ns: int) -> Posted | Refused:
        """Lift ``quantity`` of the judicial freeze with document ``freeze``; it returns where it came from."""
        return self._lift(ActKind.FREEZE, ActKind.UNFREEZE, JUDICIAL, freeze, quantity, document, time_ns)

    def release(self, pledge: str, quantity: int, document: str, time_ns: int) -> Posted | Refused:
        """Lift ``quantity`` of the third-party freeze with document ``pledge``."""
        return self._lift(ActKind.PLEDGE, ActKind.RELEASE, PLEDGED, pledge, quantity, document, time_ns)

    def deduct(
        self, freeze: str, quantity: int, document: str, time_ns: int, to_account: int | None = None
    ) -> Posted | Refused:
        """Judicial deduction from what is frozen: to another account, or out of circulation (R13.7)."""
        return self._lift(
            ActKind.FREEZE, ActKind.DEDUCT, JUDICIAL, freeze, quantity, document, time_ns, to_account, True
        )

    def _lift(
        self,
        frozen_by: ActKind,
        kind: ActKind,
        bucket: str,
        freeze: str,
        quantity: int,
        document: str,
        time_ns: int,
        to_account: int | None = None,
        deduct: bool = False,
    ) -> Posted | Refused:
        terms = self._act_content(frozen_by, freeze)
        if terms is None:
            return Refused(UNKNOWN_DOCUMENT, "freeze", f"no {frozen_by.name.lower()} has document {freeze}")
        account, asset = terms["account"], terms["asset"]

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = amount_fault("quantity", quantity)
            if refused is None and to_account is not None:
                refused = account_fault(posting, to_account, "to_account")
            lifted = _lifted(posting, account, freeze, frozen_by)
            if refused is None and quantity > terms["quantity"] - lifted:
                left = terms["quantity"] - lifted
                refused = Refused(TOO_MUCH, "quantity", f"{left} t are left of {freeze}, {quantity} t asked for")
            if refused is not None:
                return refused
            if not deduct:
                taker = posting.account(account, asset, terms["bucket"])
            elif to_account is None:
                taker = posting.account(account, asset, DEDUCTED)
            else:
                taker = posting.account(to_account, asset, REGISTRY)
            return [Leg(posting.account(account, asset, bucket), taker, quantity, kind)]

        content = {"account": account, "asset": asset, "quantity": quantity, "freeze": freeze, "to_account": to_account}
        content["frozen_by"] = int(frozen_by)
        return self.post(Act(kind, document, account, time_ns, content), build)

    def _act_content(self, kind: ActKind, document: str) -> dict[str, Any] | None:
        with self.engine.connect() as connection:
            query = select(schema.act.c.content).where(schema.act.c.id == act_id(kind, document))
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else json.loads(found)

    # -- cancellation

    def cancel(
        self, account: int, asset: str, quantity: int, document: str, time_ns: int, forced: bool = False
    ) -> Posted | Refused:
        """Voluntary (R13.6) or forced cancellation: out of circulation for good."""
        kind = ActKind.FORCED_CANCEL if forced else ActKind.CANCEL
        return self._move(kind, (account, REGISTRY), (account, CANCELLED), asset, quantity, document, time_ns)

    def request_cancel(self, account: int, asset: str, quantity: int, document: str, time_ns: int) -> Posted | Refused:
        """A cancellation that waits for a decision (``decide(ActKind.CANCEL, …)``); the quantity is tied up (R13.3)."""
        return self._move(
            ActKind.CANCEL, (account, REGISTRY), (account, CANCELLED), asset, quantity, document, time_ns, pending=True
        )


def _lifted(posting: Posting, account: int, freeze: str, frozen_by: ActKind) -> int:
    """Tonnes that earlier acts took back from a freeze."""
    kinds = (ActKind.UNFREEZE, ActKind.RELEASE, ActKind.DEDUCT)
    query = select(schema.act.c.content).where(schema.act.c.account == account, schema.act.c.kind.in_(kinds))
    contents = [json.loads(text) for (text,) in posting.connection.execute(query)]
    return sum(c["quantity"] for c in contents if c["freeze"] == freeze and c["frozen_by"] == frozen_by)


def _apply_cut(posting: Posting, account: int, asset: str, quantity: int) -> int:
    """Tonnes of this issue that an allocation cut takes (R13.7); notes them as applied."""
    if not posting.has_cuts():
        return 0
    cut, vintage = schema.allocation_cut, schema.asset
    query = (
        select(cut)
        .join(vintage, vintage.c.vintage == cut.c.vintage)
        .where(cut.c.account == account, vintage.c.code == asset, cut.c.applied_t < cut.c.quantity_t)
    )
    row = posting.connection.execute(query).one_or_none()
    if row is None:
        return 0
    taken = min(quantity, row.quantity_t - row.applied_t)
    mine = (cut.c.account == account) & (cut.c.vintage == row.vintage)
    posting.connection.execute(update(cut).where(mine).values(applied_t=cut.c.applied_t + taken))
    return taken
