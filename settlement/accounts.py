"""Real-name accounts and assets (R2.1, R2.2)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import insert, select, update

from settlement import schema, store
from settlement.base import Posted, RegistryBase, account_fault, find_account
from settlement.compliance import FIRST_YEAR, LAST_YEAR
from settlement.errors import ALREADY_EXISTS, BAD_FIELD, INSUFFICIENT, UNKNOWN_ACCOUNT, Refused
from settlement.kinds import CNY, FINAL_BUCKETS, ActKind
from settlement.ledger import Act, Leg, Posting

ACCOUNT_KINDS: Final = ("entity", "institution", "individual", "authority")
ASSET_KINDS: Final = ("allowance", "offset")
_CODE: Final = re.compile(r"[A-Z0-9_.-]{1,16}")  # as the exchange's instrument codes
_ACCOUNT_ID_MAX: Final = 2**32 - 2  # u4; the last value means "no account" on the wire


@dataclass(frozen=True, slots=True)
class AccountForm:
    """What is filed to open an account. ``account`` is the exchange's account id, ``number`` the registry's."""

    account: int
    number: str
    name: str
    identity: str
    kind: str = "entity"
    province: str = ""
    bank_account: str = ""


class AccountActs(RegistryBase):
    """Opening and closing accounts, listing vintages."""

    def add_asset(self, code: str, kind: str = "allowance", vintage: int = 0) -> Refused | None:
        """Register a vintage (``vintage`` = the last compliance year it was issued for) or an offset credit.
        Again with the same terms: nothing happens."""
        if not _CODE.fullmatch(code) or code == CNY:
            return Refused(BAD_FIELD, "code", f"{code!r} is not 1 to 16 of A-Z, 0-9, _ . -")
        if kind not in ASSET_KINDS:
            return Refused(BAD_FIELD, "kind", f"{kind!r} is not one of {', '.join(ASSET_KINDS)}")
        if kind == "allowance" and not FIRST_YEAR <= vintage <= LAST_YEAR:
            return Refused(BAD_FIELD, "vintage", f"an allowance has a vintage from {FIRST_YEAR} on, not {vintage}")
        with store.writing(self.engine) as connection:
            row = connection.execute(select(schema.asset).where(schema.asset.c.code == code)).one_or_none()
            if row is None:
                connection.execute(insert(schema.asset).values(code=code, kind=kind, vintage=vintage, next_serial=1))
            elif (row.kind, row.vintage) != (kind, vintage):
                return Refused(ALREADY_EXISTS, "code", f"{code} is registered as {row.kind} of {row.vintage}")
        return None

    def open_account(self, form: AccountForm, document: str, time_ns: int) -> Posted | Refused:
        """Open a real-name account."""
        act = Act(ActKind.OPEN_ACCOUNT, document, form.account, time_ns, asdict(form))

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = form_fault(form) or self._taken(posting, form)
            if refused is not None:
                return refused
            row = {**asdict(form), "state": "open", "opened_ns": time_ns}
            # At once, not at the end of the batch: the next row of an import must see it.
            posting.connection.execute(insert(schema.registry_account).values(**row))
            return []

        return self.post(act, build)

    @staticmethod
    def _taken(posting: Posting, form: AccountForm) -> Refused | None:
        table = schema.registry_account
        query = select(table).where(
            (table.c.account == form.account) | (table.c.number == form.number) | (table.c.identity == form.identity)
        )
        row = posting.connection.execute(query).first()
        if row is None:
            return None
        for field in ("account", "number", "identity"):
            if getattr(row, field) == getattr(form, field):
                return Refused(ALREADY_EXISTS, field, f"{getattr(form, field)} is registered for account {row.account}")
        raise AssertionError("a row was found by none of its keys")

    def close_account(self, account: int, document: str, time_ns: int) -> Posted | Refused:
        """Close an account that holds nothing (what is surrendered or cancelled stays on record)."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account)
            if refused is not None:
                return refused
            table = schema.ledger_account
            for row in posting.connection.execute(select(table).where(table.c.owner == account)):
                if row.bucket not in FINAL_BUCKETS and row.credits_posted != row.debits_posted:
                    held = row.credits_posted - row.debits_posted
                    return Refused(INSUFFICIENT, "account", f"still holds {held} of {row.asset} in {row.bucket}")
            accounts = schema.registry_account
            posting.connection.execute(update(accounts).where(accounts.c.account == account).values(state="closed"))
            posting.checked.discard(("account", account))
            return []

        return self.post(Act(ActKind.CLOSE_ACCOUNT, document, account, time_ns, {}), build)

    def account(self, account: int) -> AccountForm | Refused:
        """The real-name account's particulars."""
        with store.reading(self.engine) as connection:
            row = find_account(connection, account)
        if row is None:
            return Refused(UNKNOWN_ACCOUNT, "account", f"account {account} is not registered")
        return AccountForm(row.account, row.number, row.name, row.identity, row.kind, row.province, row.bank_account)


def form_fault(form: AccountForm) -> Refused | None:
    """What is wrong with a filed form."""
    if not 0 <= form.account <= _ACCOUNT_ID_MAX:
        return Refused(BAD_FIELD, "account", f"{form.account} is not an account id")
    for field, longest in (("number", 40), ("name", 200), ("identity", 40)):
        value = getattr(form, field)
        if not value or len(value) > longest or not value.isprintable():
            return Refused(BAD_FIELD, field, f"{value!r} is not 1 to {longest} printable characters")
    for field in ("province", "bank_account"):
        value = getattr(form, field)
        if len(value) > 40 or not value.isprintable():
            return Refused(BAD_FIELD, field, f"{value!r} is not up to 40 printable characters")
    if form.kind not in ACCOUNT_KINDS:
        return Refused(BAD_FIELD, "kind", f"{form.kind!r} is not one of {', '.join(ACCOUNT_KINDS)}")
    return None
