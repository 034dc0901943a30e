"""Money in the special settlement accounts: a separate ledger per trader (R12.4, D23), and the risk reserve."""

from __future__ import annotations

from settlement.base import Posted, RegistryBase, account_fault, amount_fault
from settlement.errors import Refused
from settlement.kinds import BANK, CASH, CNY, FEES, RESERVE, SYSTEM, ActKind, TransferState
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

    def pay_out_fees(self, amount_fen: int, document: str, time_ns: int) -> Posted | Refused:
        """Collected fees leave the settlement accounts."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = amount_fault("amount_fen", amount_fen)
            if refused is not None:
                return refused
            fees, bank = posting.account(SYSTEM, CNY, FEES), posting.account(SYSTEM, CNY, BANK)
            return [Leg(fees, bank, amount_fen, ActKind.PAY_FEES)]

        return self.post(Act(ActKind.PAY_FEES, document, SYSTEM, time_ns, {"amount_fen": amount_fen}), build)
