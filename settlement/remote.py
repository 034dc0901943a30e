"""A registry in another institution's house: the same answers, over a line that can fail.

``RemoteRegistry`` hands acts to a ``RegistryLine``. An act has one idempotency key for ever. When no answer
comes, the outcome is unknown: it is resolved by **asking** for the key, never by sending again under a new
one; only when the other side says that it does not know the key is the same request sent again.

A request's states: NEW -> SENT -> DONE | REFUSED, and SENT -> ASKING -> DONE | REFUSED | SENT. They are a table
below; requests survive a crash in the outbox table with target ``registry``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

from sqlalchemy import Engine, insert, select, update

from settlement import schema, store
from settlement.errors import DOCUMENT_USED, Refused

REGISTRY: Final = "registry"
# How often a request is asked for within one call before it is left for the next: the line is down, not slow.
ASKS_MAX: Final = 3


class Unknown(StrEnum):
    """The two answers to "what became of this key?" that are no outcome."""

    NO_ANSWER = "no answer"  # the line failed: ask later
    NEVER_SEEN = "never seen"  # it did not arrive: the same request may be sent again


Outcome = Mapping[str, Any] | Refused  # what the registry says of an act that it has decided


class RegistryLine(Protocol):
    """The transport to a remote registry."""

    def send(self, key: str, request: Mapping[str, Any]) -> Outcome | Unknown:
        """Hand over a request under its key; a key that is known is answered with its outcome."""

    def ask(self, key: str) -> Outcome | Unknown:
        """What became of the request with this key."""


class RequestState(StrEnum):
    NEW = "new"
    SENT = "sent"  # given to the line, no outcome known
    ASKING = "asking"  # the outcome is being asked for
    DONE = "done"
    REFUSED = "refused"


class RequestEvent(StrEnum):
    SEND = "send"
    ASK = "ask"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    NEVER_SEEN = "never seen"
    SILENCE = "silence"


_S, _E = RequestState, RequestEvent
REQUEST: Final[dict[tuple[RequestState, RequestEvent], RequestState]] = {
    (_S.NEW, _E.SEND): _S.SENT,
    (_S.SENT, _E.ACCEPTED): _S.DONE,
    (_S.SENT, _E.REFUSED): _S.REFUSED,
    (_S.SENT, _E.SILENCE): _S.SENT,
    (_S.SENT, _E.ASK): _S.ASKING,
    (_S.ASKING, _E.ACCEPTED): _S.DONE,
    (_S.ASKING, _E.REFUSED): _S.REFUSED,
    (_S.ASKING, _E.SILENCE): _S.SENT,
    (_S.ASKING, _E.NEVER_SEEN): _S.NEW,
}


class RemoteRegistry:
    """Requests to a remote registry, kept until their outcome is known."""

    def __init__(self, engine: Engine, line: RegistryLine) -> None:
        self.engine = engine
        self._line = line

    def submit(self, key: str, request: Mapping[str, Any], time_ns: int) -> Outcome | None:
        """Have the request done under ``key``. None: the outcome is not known yet, ``resolve`` goes on. The same
        key with another request is refused."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=False)
        stored = self._stored(key)
        if stored is None:
            with store.writing(self.engine) as connection:
                row = {"key": key, "target": REGISTRY, "message": text, "answer": "", "attempts": 0}
                connection.execute(insert(schema.outbox).values(**row, state=RequestState.NEW.value, time_ns=time_ns))
        elif stored.message != text:
            return Refused(DOCUMENT_USED, "key", f"{key} was used for another request")
        return self._drive(key)

    def resolve(self) -> list[str]:
        """Go on with every request whose outcome is open; the keys that stay open."""
        table = schema.outbox
        query = select(table.c.key).where(
            table.c.target == REGISTRY, table.c.state.notin_([RequestState.DONE.value, RequestState.REFUSED.value])
        )
        with store.reading(self.engine) as connection:
            keys = list(connection.execute(query.order_by(table.c.time_ns, table.c.key)).scalars())
        return [key for key in keys if self._drive(key) is None]

    def _drive(self, key: str) -> Outcome | None:
        """Move the request through the table until its outcome is known or the line is silent."""
        for _ in range(ASKS_MAX):
            row = self._stored(key)
            state = RequestState(row.state)
            if state in (RequestState.DONE, RequestState.REFUSED):
                answer = json.loads(row.answer)
                return answer if state == RequestState.DONE else Refused(**answer)
            if state == RequestState.NEW:
                # Noted before it is sent: after a crash we ask, because it may have arrived.
                self._step(key, state, RequestEvent.SEND)
                answer = self._line.send(key, json.loads(row.message))
                self._hear(key, RequestState.SENT, answer)
            else:
                if state == RequestState.SENT:
                    self._step(key, state, RequestEvent.ASK)
                self._hear(key, RequestState.ASKING, self._line.ask(key))
        return None

    def _hear(self, key: str, state: RequestState, answer: Outcome | Unknown) -> None:
        if isinstance(answer, Unknown):
            seen = answer == Unknown.NO_ANSWER or state == RequestState.SENT
            self._step(key, state, RequestEvent.SILENCE if seen else RequestEvent.NEVER_SEEN)
        elif isinstance(answer, Refused):
            content = {"code": answer.code, "field": answer.field, "reason": answer.reason}
            self._step(key, state, RequestEvent.REFUSED, content)
        else:
            self._step(key, state, RequestEvent.ACCEPTED, dict(answer))

    def _step(
        self, key: str, state: RequestState, event: RequestEvent, answer: Mapping[str, Any] | None = None
    ) -> None:
        to = REQUEST[state, event]
        table = schema.outbox
        values: dict[str, Any] = {"state": to.value}
        if event == RequestEvent.SEND:
            values["attempts"] = table.c.attempts + 1
        if answer is not None:
            values["answer"] = json.dumps(answer, ensure_ascii=False)
        with store.writing(self.engine) as connection:
            connection.execute(update(table).where(table.c.key == key).values(**values))

    def _stored(self, key: str) -> Any:
        table = schema.outbox
        with store.reading(self.engine) as connection:
            return connection.execute(select(table).where(table.c.key == key)).one_or_none()
