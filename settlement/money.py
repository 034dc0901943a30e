"""Money in the special settlement accounts: a separate ledger per trader (R12.4, D23), and the risk reserve."""

from __future__ import annotations

from sqlalchemy import select

from settlement import fees, schema, store
from settlement.base import AMOUNT_MAX, Posted, RegistryBase, account_fault, amount_fault
from settlement.errors import BAD_FIELD, Refused
from settlement.kinds import (
    BANK,
    CASH,
    CLAIMS,
    CNY,
    FEES,
    OWED,
    RESERVE,
    SETTLEMENT_FEES,
    SYSTEM,
    TRADING_FEES,
    ActKind,
    TransferState,
)
from settlement.ledger import Act, Leg, Posting


class MoneyActs(RegistryBase):
    """Deposits, withdrawals (in two steps: reserve, then paid or returned), reserve, fees paid out."""

    def deposit(self, account: int, amount_fen: int, document: str, time_ns: int) -> Posted | Refused:
        """Money arrived at the settlement bank for the trader; ``document`` is the bank's."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account) or amount_fault("amount_fen", amount_fen)
            if refused is not None:
                return refused
            bank, cash = posting.account(SYSTEM, CNY, BANK), posting.account(account, CNY, CASH)
            return [Leg(bank, cash, amount_fen, ActKind.DEPOSIT)]

        content = {"account": account, "amount_fen": amount_fen}
        return self.post(Act(ActKind.DEPOSIT, document, account, time_ns, content), build)

    def reserve_withdrawal(self, account: int, amount_fen: int, document: str, time_ns: int) -> Posted | Refused:
        """Reserve money for a withdrawal; ``pay_withdrawal`` or ``return_withdrawal`` ends it."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account) or amount_fault("amount_fen", amount_fen)
            if refused is not None:
                return refused
            bank, cash = posting.account(SYSTEM, CNY, BANK), posting.account(account, CNY, CASH)
            return [Leg(cash, bank, amount_fen, ActKind.WITHDRAW, TransferState.PENDING)]

        content = {"account": account, "amount_fen": amount_fen}
        return self.post(Act(ActKind.WITHDRAW, document, account, time_ns, content), build)

    def pay_withdrawal(self, document: str, bank_document: str, time_ns: int) -> Posted | Refused:
        """The bank has paid the withdrawal."""
        return self.decide(ActKind.WITHDRAW, document, True, bank_document, time_ns)

    def return_withdrawal(self, document: str, bank_document: str, time_ns: int) -> Posted | Refused:
        """The bank has refused; the money is free again."""
        return self.decide(ActKind.WITHDRAW, document, False, bank_document, time_ns)

    def fund_reserve(self, amount_fen: int, document: str, time_ns: int) -> Posted | Refused:
        """The institution pays into the settlement risk reserve (R12.5)."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = amount_fault("amount_fen", amount_fen)
            if refused is not None:
                return refused
            bank, reserve = posting.account(SYSTEM, CNY, BANK), posting.account(SYSTEM, CNY, RESERVE)
            return [Leg(bank, reserve, amount_fen, ActKind.FUND_RESERVE)]

        content = {"amount_fen": amount_fen}
        return self.post(Act(ActKind.FUND_RESERVE, document, SYSTEM, time_ns, content), build)

    def repay(self, account: int, amount_fen: int, document: str, time_ns: int) -> Posted | Refused:
        """A trader pays back what the risk reserve has paid for it, out of its cash (R12.5)."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account) or amount_fault("amount_fen", amount_fen)
            if refused is not None:
                return refused
            owed = posting.account(account, CNY, OWED)
            if amount_fen > owed.posted:
                return Refused(BAD_FIELD, "amount_fen", f"account {account} owes the reserve {owed.posted} fen")
            cash, reserve = posting.account(account, CNY, CASH), posting.account(SYSTEM, CNY, RESERVE)
            claims = posting.account(SYSTEM, CNY, CLAIMS)
            return [Leg(cash, reserve, amount_fen, ActKind.REPAY), Leg(owed, claims, amount_fen, ActKind.REPAY)]

        content = {"account": account, "amount_fen": amount_fen}
        return self.post(Act(ActKind.REPAY, document, account, time_ns, content), build)

    def funds(self) -> list[tuple[str, int]]:
        """The institution's own money accounts: (name, fen)."""
        table = schema.ledger_account
        balance = (table.c.credits_posted - table.c.debits_posted).label("fen")
        query = select(table.c.bucket, balance).where(table.c.owner == SYSTEM, table.c.asset == CNY)
        with store.reading(self.engine) as connection:
            found = {row.bucket: row.fen for row in connection.execute(query)}
        names = ((RESERVE, 1), (FEES, 1), (TRADING_FEES, 1), (SETTLEMENT_FEES, 1), (CLAIMS, -1))
        return [(name, sign * found.get(name, 0)) for name, sign in names]

    def fees_collected(self) -> tuple[int, int, int]:
        """Fen ever collected with deals, and of them split off as trading and as settlement fees."""
        table = schema.ledger_account
        query = select(table.c.bucket, table.c.credits_posted).where(table.c.owner == SYSTEM, table.c.asset == CNY)
        with store.reading(self.engine) as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return found.get(FEES, 0), found.get(TRADING_FEES, 0), found.get(SETTLEMENT_FEES, 0)

    def split_fees(
        self, date: int, trading_fen: int, settlement_fen: int, document: str, time_ns: int
    ) -> Posted | Refused:
        """Split the fees collected up to ``date`` into the exchange's and the registry's part (R5.7), as the exchange
        has charged them, and so those of each deal (settlement.fees)."""
        total = trading_fen + settlement_fen
        if min(trading_fen, settlement_fen) < 0 or not 0 < total <= AMOUNT_MAX:
            return Refused(BAD_FIELD, "fees", f"{trading_fen} and {settlement_fen} fen are no fees to split")
        content: dict[str, int] = {"trading_fen": trading_fen, "settlement_fen": settlement_fen}
        with store.reading(self.engine) as connection:
            found = fees.open_deals(connection, date, total)
        if found is not None:
            content |= {"date": date, "deals": found[1]}

        def build(posting: Posting) -> list[Leg] | Refused:
            collected = posting.account(SYSTEM, CNY, FEES)
            parts = ((TRADING_FEES, trading_fen), (SETTLEMENT_FEES, settlement_fen))
            if found is not None:
                after = found[0]
                posting.at_end(lambda c: fees.divide(c, after, date, trading_fen, total, posting.batch))
            return [
                Leg(collected, posting.account(SYSTEM, CNY, bucket), fen, ActKind.SPLIT_FEES)
                for bucket, fen in parts
                if fen
            ]

        return self.post(Act(ActKind.SPLIT_FEES, document, SYSTEM, time_ns, content), build)

    def pay_out_fees(self, amount_fen: int, document: str, time_ns: int, part: str = FEES) -> Posted | Refused:
        """Fees leave the settlement accounts; ``part``: FEES (not split), TRADING_FEES or SETTLEMENT_FEES."""
        assert part in (FEES, TRADING_FEES, SETTLEMENT_FEES)

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = amount_fault("amount_fen", amount_fen)
            if refused is not None:
                return refused
            collected, bank = posting.account(SYSTEM, CNY, part), posting.account(SYSTEM, CNY, BANK)
            return [Leg(collected, bank, amount_fen, ActKind.PAY_FEES)]

        content = {"amount_fen": amount_fen} if part == FEES else {"amount_fen": amount_fen, "part": part}
        return self.post(Act(ActKind.PAY_FEES, document, SYSTEM, time_ns, content), build)
