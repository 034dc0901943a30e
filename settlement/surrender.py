"""Surrender, offset, carry-over, cuts: how an entity meets its obligation (R13.4–R13.8)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from settlement import compliance, schema, store
from settlement.base import AMOUNT_MAX, Posted, RegistryBase, account_fault, amount_fault, asset_fault
from settlement.compliance import Compliance
from settlement.errors import BAD_FIELD, NOT_USABLE, TOO_MUCH, UNKNOWN_DOCUMENT, Refused
from settlement.hours import date_at, day_bounds_ns, is_date
from settlement.kinds import (
    CANCELLED,
    CARRIED,
    FINAL_BUCKETS,
    ISSUER,
    REGISTRY,
    SURRENDERED,
    SYSTEM,
    TRADING,
    ActKind,
    TransferState,
)
from settlement.ledger import Act, Leg, Posting, act_id
from settlement.queries import balances_at


class ComplianceActs(RegistryBase):
    """Obligations and what is done about them."""

    vintage_rules: Sequence[compliance.VintageRule] = compliance.VINTAGE_RULES

    def set_obligation(
        self, account: int, year: int, emissions_t: int, deadline: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """Record the year's verified emissions and the deadline (YYYYMMDD); a new document corrects them."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account)
            if refused is None and not 0 <= emissions_t <= AMOUNT_MAX:
                refused = Refused(BAD_FIELD, "emissions_t", f"{emissions_t} is not a quantity")
            if refused is None and not is_date(deadline):
                refused = Refused(BAD_FIELD, "deadline", f"{deadline} is not a date YYYYMMDD")
            if refused is None and not compliance.FIRST_YEAR <= year <= deadline // 10_000:
                refused = Refused(
                    BAD_FIELD, "year", f"{year} is not a year from {compliance.FIRST_YEAR} to the deadline's"
                )
            row = _obligation(posting.connection, account, year)
            if refused is None and row is not None and row.offset_t > compliance.offset_max(emissions_t):
                refused = Refused(TOO_MUCH, "emissions_t", f"{row.offset_t} t of offset would exceed 5 %")
            if refused is not None:
                return refused
            table, values = schema.obligation, {"emissions_t": emissions_t, "deadline": deadline}
            if row is None:
                key = {"account": account, "year": year, "surrendered_t": 0, "offset_t": 0}
                posting.connection.execute(insert(table).values(**key, **values))
            else:
                _update_obligation(posting.connection, account, year, **values)
            return []

        content = {"account": account, "year": year, "emissions_t": emissions_t, "deadline": deadline}
        return self.post(Act(ActKind.OBLIGATION, document, account, time_ns, content), build)

    # -- surrender and offset

    def surrender(
        self, account: int, year: int, asset: str, quantity: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """Surrender allowances for a compliance year, from the registry account (R13.4)."""
        return self._surrender(ActKind.SURRENDER, account, account, year, asset, quantity, document, time_ns)

    def forced_surrender(
        self, authority: int, entity: int, year: int, asset: str, quantity: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """The provincial authority surrenders from its own account for an entity in default (R13.7)."""
        return self._surrender(ActKind.FORCED_SURRENDER, authority, entity, year, asset, quantity, document, time_ns)

    def _surrender(
        self, kind: ActKind, giver: int, entity: int, year: int, asset: str, quantity: int, document: str, time_ns: int
    ) -> Posted | Refused:
        def build(posting: Posting) -> list[Leg] | Refused:
            refused = self._surrender_fault(posting, giver, entity, year, asset, quantity, time_ns)
            if refused is not None:
                return refused
            debit, credit = posting.account(giver, asset, REGISTRY), posting.account(giver, asset, SURRENDERED)
            if debit.available < quantity:
                return _short(debit.name(), debit.available, quantity)
            posting.at_end(lambda c: _update_obligation(c, entity, year, add_surrendered=quantity))
            return [Leg(debit, credit, quantity, kind)]

        content = {"account": entity, "giver": giver, "year": year, "asset": asset, "quantity": quantity}
        return self.post(Act(kind, document, entity, time_ns, content), build)

    def _surrender_fault(
        self, posting: Posting, giver: int, entity: int, year: int, asset: str, quantity: int, time_ns: int
    ) -> Refused | None:
        refused = asset_fault(posting, asset, "allowance") or amount_fault("quantity", quantity)
        refused = refused or account_fault(posting, giver) or account_fault(posting, entity)
        if refused is None and _obligation(posting.connection, entity, year) is None:
            refused = Refused(UNKNOWN_DOCUMENT, "year", f"account {entity} has no obligation for {year}")
        if refused is None:
            vintage = _vintages(posting.connection)[asset]
            if not compliance.usable(vintage, year, date_at(time_ns), self.vintage_rules):
                refused = Refused(NOT_USABLE, "asset", f"{asset} may not be surrendered for {year}")
        return refused

    def offset(
        self, account: int, year: int, asset: str, quantity: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """Cancel offset credits (CCER) and count them for the year, up to 5 % of the obligation (R13.5)."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = asset_fault(posting, asset, "offset") or amount_fault("quantity", quantity)
            refused = refused or account_fault(posting, account)
            row = _obligation(posting.connection, account, year)
            if refused is None and row is None:
                refused = Refused(UNKNOWN_DOCUMENT, "year", f"account {account} has no obligation for {year}")
            if refused is not None or row is None:
                assert refused is not None
                return refused
            most = compliance.offset_max(row.emissions_t)
            if row.offset_t + quantity > most:
                return Refused(TOO_MUCH, "quantity", f"{most} t may be offset, {row.offset_t} t are")
            debit, credit = posting.account(account, asset, REGISTRY), posting.account(account, asset, CANCELLED)
            if debit.available < quantity:
                return _short(debit.name(), debit.available, quantity)
            posting.at_end(lambda c: _update_obligation(c, account, year, add_offset=quantity))
            return [Leg(debit, credit, quantity, ActKind.OFFSET)]

        content = {"account": account, "year": year, "asset": asset, "quantity": quantity}
        return self.post(Act(ActKind.OFFSET, document, account, time_ns, content), build)

    # -- cuts of a later allocation

    def cut_allocation(
        self, account: int, vintage: int, quantity: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """What was not surrendered is taken off a later year's allocation (R13.7); ``issue`` applies it."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account) or amount_fault("quantity", quantity)
            if refused is not None:
                return refused
            table = schema.allocation_cut
            mine = (table.c.account == account) & (table.c.vintage == vintage)
            if posting.connection.execute(select(table).where(mine)).one_or_none() is None:
                row = {"account": account, "vintage": vintage, "quantity_t": quantity, "applied_t": 0}
                posting.connection.execute(insert(table).values(**row))
            else:
                more = {"quantity_t": table.c.quantity_t + quantity}
                posting.connection.execute(update(table).where(mine).values(**more))
            return []

        content = {"account": account, "vintage": vintage, "quantity": quantity}
        return self.post(Act(ActKind.CUT, document, account, time_ns, content), build)

    # -- carry-over (R13.8)

    def carry_over_limit(self, account: int) -> int:
        """T of R13.8 from the deals and holdings on record; apply after 2025-12-31."""
        with store.reading(self.engine) as connection:
            return _carry_limit(connection, account)

    def apply_carry_over(
        self, account: int, asset: str, quantity: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """Apply to exchange old allowances for CEA25: frozen from now on, until ``decide_carry_over``."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = asset_fault(posting, asset, "allowance") or amount_fault("quantity", quantity)
            refused = refused or account_fault(posting, account) or asset_fault(posting, compliance.CARRY_TARGET)
            if refused is None and _vintages(posting.connection)[asset] not in compliance.CARRY_VINTAGES:
                refused = Refused(NOT_USABLE, "asset", f"{asset} is not one of the vintages 2019 to 2024")
            if refused is not None:
                return refused
            most, used = _carry_limit(posting.connection, account), _carried(posting.connection, account)
            if used + quantity > most:
                return Refused(TOO_MUCH, "quantity", f"{most} t may be carried over, {used} t are applied for")
            debit, credit = posting.account(account, asset, REGISTRY), posting.account(account, asset, CARRIED)
            return [Leg(debit, credit, quantity, ActKind.CARRY_OVER, TransferState.PENDING)]

        content = {"account": account, "asset": asset, "quantity": quantity}
        return self.post(Act(ActKind.CARRY_OVER, document, account, time_ns, content), build)

    def decide_carry_over(self, application: str, approve: bool, document: str, time_ns: int) -> Posted | Refused:
        """Approve (the old leave circulation, as many CEA25 are issued, in one chain) or refuse."""
        number = act_id(ActKind.CARRY_OVER, application)

        def build(posting: Posting) -> list[Leg] | Refused:
            ended = self.ending_legs(posting, ActKind.CARRY_OVER, application, approve)
            if isinstance(ended, Refused) or not approve:
                return ended
            account, quantity = ended[0].debit.owner, ended[0].amount
            target = compliance.CARRY_TARGET
            issuer, holder = posting.account(SYSTEM, target, ISSUER), posting.account(account, target, REGISTRY)
            return [*ended, Leg(issuer, holder, quantity, ActKind.CARRY_OVER)]

        content = {"kind": int(ActKind.CARRY_OVER), "request": application, "approve": approve}
        return self.post(Act(ActKind.DECIDE, document, self.act_account(number), time_ns, content), build)

    # -- where entities stand

    def compliance(
        self, year: int, date: int, open_sells: Mapping[tuple[int, str], int] | None = None
    ) -> list[Compliance]:
        """Every entity with an obligation for the year, as of ``date``. ``open_sells``: (account, asset) -> tonnes in
        open sell orders at the exchange."""
        assert is_date(date), f"{date} is not a date"
        sells = open_sells or {}
        with store.reading(self.engine) as connection:
            vintages = _vintages(connection)
            good = [a for a, v in vintages.items() if compliance.usable(v, year, date, self.vintage_rules)]
            table = schema.ledger_account
            quantity = table.c.credits_posted - table.c.debits_posted - table.c.debits_pending
            query = select(table.c.owner, table.c.bucket, func.sum(quantity)).where(
                table.c.asset.in_(good), table.c.bucket.in_((REGISTRY, TRADING))
            )
            held = {
                (owner, bucket): int(tonnes)
                for owner, bucket, tonnes in connection.execute(query.group_by(table.c.owner, table.c.bucket))
            }
            rows = connection.execute(
                select(schema.obligation).where(schema.obligation.c.year == year).order_by(schema.obligation.c.account)
            ).all()
        return [
            Compliance(
                row.account,
                year,
                row.emissions_t,
                row.deadline,
                row.surrendered_t,
                row.offset_t,
                held.get((row.account, REGISTRY), 0),
                held.get((row.account, TRADING), 0),
                sum(sells.get((row.account, asset), 0) for asset in good),
                compliance.days_between(date, row.deadline),
            )
            for row in rows
        ]

    def warnings(
        self, year: int, date: int, open_sells: Mapping[tuple[int, str], int] | None = None
    ) -> list[Compliance]:
        """Early warning: the entities that have not complied, those that lack most first (R13.4)."""
        found = [entity for entity in self.compliance(year, date, open_sells) if entity.warning]
        return sorted(found, key=lambda entity: (-entity.shortfall_t, -entity.missing_t, entity.account))


def _short(name: str, available: int, needed: int) -> Refused:
    return Refused("insufficient", name, f"{available} t available, {needed} t needed")


def _obligation(connection: Connection, account: int, year: int) -> Any:
    table = schema.obligation
    query = select(table).where(table.c.account == account, table.c.year == year)
    return connection.execute(query).one_or_none()


def _update_obligation(
    connection: Connection, account: int, year: int, add_surrendered: int = 0, add_offset: int = 0, **values: int
) -> None:
    table = schema.obligation
    sums = {"surrendered_t": table.c.surrendered_t + add_surrendered, "offset_t": table.c.offset_t + add_offset}
    connection.execute(update(table).where(table.c.account == account, table.c.year == year).values(**values, **sums))


def _vintages(connection: Connection) -> dict[str, int]:
    query = select(schema.asset.c.code, schema.asset.c.vintage).where(schema.asset.c.kind == "allowance")
    return {row[0]: row[1] for row in connection.execute(query)}


def _carry_limit(connection: Connection, account: int) -> int:
    """R13.8 over the deals of 2024 and 2025 and the holding at the end of 2025-12-31, whatever happened since."""
    deal = schema.deal
    sums = []
    for side in (deal.c.seller, deal.c.buyer):
        query = select(func.sum(deal.c.quantity_t)).where(
            side == account, deal.c.date.between(compliance.CARRY_FIRST_DATE, compliance.CARRY_LAST_DATE)
        )
        sums.append(int(connection.execute(query).scalar_one_or_none() or 0))
    old = {code for code, vintage in _vintages(connection).items() if vintage in compliance.CARRY_VINTAGES}
    then = balances_at(connection, account, day_bounds_ns(compliance.CARRY_LAST_DATE)[1])
    counted = (FINAL_BUCKETS - {CARRIED}).isdisjoint
    holding = sum(tonnes for (asset, bucket), tonnes in then.items() if asset in old and counted({bucket}))
    return compliance.carry_over_max(sums[0], sums[1], holding)


def _carried(connection: Connection, account: int) -> int:
    """Tonnes applied for and not refused."""
    act, transfer = schema.act, schema.transfer
    refused = select(transfer.c.ref_act).where(transfer.c.state == TransferState.VOID_PENDING)
    query = select(act.c.content).where(
        act.c.account == account, act.c.kind == ActKind.CARRY_OVER, act.c.id.notin_(refused)
    )
    return sum(json.loads(content)["quantity"] for content in connection.execute(query).scalars())
