"""What the registry still has to tell another system: written with the act it belongs to, sent afterwards.

A message is in the same transaction as its act, so neither exists without the other. Sending may fail or
leave the outcome unknown: the same message, under the same key, is sent again, and the receiver does nothing
the second time (its document number is the idempotency key).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Engine, insert, select, update

from engine import messages
from settlement import schema, store
from settlement.exchange_port import Answer
from settlement.ledger import Posting

EXCHANGE: Final = "exchange"
# Answers that are written in one transaction: a day's statements are thousands of messages, each commit a sync.
_NOTED_TOGETHER: Final = 256


class OutboxState(StrEnum):
    WAITING = "waiting"  # not sent, or sent without an answer
    DONE = "done"
    REFUSED = "refused"  # the receiver said no: an operator has to look


def put(posting: Posting, key: str, message: messages.Message) -> None:
    """Add a message to the batch. A key that is there already is left alone."""
    table = schema.outbox
    if posting.connection.execute(select(table.c.key).where(table.c.key == key)).one_or_none() is not None:
        return
    row = {
        "key": key,
        "target": EXCHANGE,
        "message": msgspec.json.encode(message).decode(),
        "state": OutboxState.WAITING.value,
        "answer": "",
        "attempts": 0,
        "time_ns": posting.time_ns,
    }
    posting.at_end(lambda connection: (connection.execute(insert(table).values(**row)), None)[1])


class Outbox:
    """The messages of one database, to one exchange."""

    def __init__(self, engine: Engine, send: Callable[[messages.Message], Answer | None]) -> None:
        self.engine = engine
        self._send = send

    def waiting(self) -> list[tuple[str, messages.Message]]:
        """What has no answer yet, in the order in which it was written."""
        table = schema.outbox
        query = select(table.c.key, table.c.message).where(
            table.c.target == EXCHANGE, table.c.state == OutboxState.WAITING.value
        )
        with store.reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.time_ns, table.c.key)).all()
        return [(row.key, _decoder.decode(row.message.encode())) for row in rows]

    def refused(self) -> list[tuple[str, str]]:
        """(key, answer) of what the receiver refused."""
        table = schema.outbox
        query = select(table.c.key, table.c.answer).where(
            table.c.target == EXCHANGE, table.c.state == OutboxState.REFUSED.value
        )
        with store.reading(self.engine) as connection:
            return [(row[0], row[1]) for row in connection.execute(query.order_by(table.c.key))]

    def flush(self) -> int:
        """Send what is waiting, in order; stops at the first message without an answer, so that the order is
        kept. Returns how many still wait."""
        waiting = self.waiting()
        answers: list[tuple[str, Answer | None]] = []
        try:
            for position, (key, message) in enumerate(waiting):
                answer = self._send(message)
                answers.append((key, answer))
                if answer is None:
                    return len(waiting) - position
                if len(answers) >= _NOTED_TOGETHER:
                    self._note(answers)
        finally:
            self._note(answers)
        return 0

    def state(self, key: str) -> OutboxState | None:
        """How far a message is."""
        table = schema.outbox
        with store.reading(self.engine) as connection:
            found = connection.execute(select(table.c.state).where(table.c.key == key)).scalar_one_or_none()
        return None if found is None else OutboxState(found)

    def _note(self, answers: list[tuple[str, Answer | None]]) -> None:
        """Keep the answers, and forget them here. A crash before it sends messages again, which do nothing then."""
        if not answers:
            return
        table = schema.outbox
        with store.writing(self.engine) as connection:
            for key, answer in answers:
                values: dict[str, object] = {"attempts": table.c.attempts + 1}
                if answer is not None:
                    values["state"] = (OutboxState.DONE if answer.done else OutboxState.REFUSED).value
                    values["answer"] = " ".join(answer.text.split())  # one line: a dump has a line a row
                connection.execute(update(table).where(table.c.key == key).values(**values))
        answers.clear()


_decoder: Final = msgspec.json.Decoder(
    messages.Deposit
    | messages.Withdraw
    | messages.TransferIn
    | messages.TransferOut
    | messages.TransferOutDone
    | messages.SendStatement
)
