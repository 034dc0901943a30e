"""Numbered cards: what a member may rely on, each an executable check against a running exchange (`cea certify`).

A card speaks the wire protocol by itself (:class:`Probe`), not through the client library, so it certifies the
exchange and shows a member's developer what to send. Cards need a trader key; they leave no open orders behind.
Outside trading hours orders are refused by the market: such a refusal is a journaled outcome too, and does for most
cards. Those that need an order in the book say that they could not be tried.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import zmq

from engine import messages
from engine.codes import TEXT_EN, Code, Reason
from engine.records import (
    ACCEPTED,
    ANY_INSTRUMENT,
    ANY_SIDE,
    CANCEL,
    CANCELLED,
    COMMAND,
    EXPIRES,
    FILL_MAKER,
    FILL_TAKER,
    IOC,
    MASS_CANCEL,
    MASS_CANCELLED,
    MESSAGE,
    NEW,
    REJECTED,
)
from gateway import keys as keyfile
from gateway import protocol as p
from gateway.connection import Connection, GatewayError

ANSWER_SECONDS: Final = 15.0  # an exchange that others keep busy answers late, and still well
DISCONNECT_SECONDS: Final = 1.0  # the exchange looks at its timers ten times a second, later on a busy machine
MALFORMED_MAX: Final = 1_000  # an exchange that takes more of these has no limit


class CardFailed(Exception):
    """The exchange did not do what the card says."""


class NotTried(Exception):
    """The market refused the order that the card needs: it says nothing about the exchange."""


class Result(NamedTuple):
    """A card's outcome; ``reason`` says what was seen instead, or why it could not be tried."""

    number: int
    title: str
    passed: bool
    reason: str
    tried: bool = True

    @property
    def failed(self) -> bool:
        """The exchange did not do what the card says."""
        return self.tried and not self.passed


class Card(NamedTuple):
    """``text`` is the card's page in docs/protocol.md."""

    number: int
    title: str
    text: str
    run: Callable[[Bench], None]


class Probe:
    """One bare connection of a key: sends and receives frames as they are."""

    def __init__(self, where: str | os.PathLike[str], key: str | keyfile.Secret) -> None:
        self.link = Connection(where, key)
        target = self.link._target()
        if target is None:
            raise CardFailed("no exchange runs there")
        self.socket: zmq.Socket[Any] = self.link._dealer(target, immediate=False)
        self.accepted: p.LoginAccepted | None = None

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close(0)

    @property
    def token(self) -> int:
        """The login's token, 0 before."""
        return self.accepted.token if self.accepted else 0

    def send(self, message: p.Control | bytes) -> None:
        """One frame."""
        self.socket.send(message if isinstance(message, bytes) else p.encode(message))

    def frames(self, seconds: float = ANSWER_SECONDS) -> Iterator[Any]:
        """What comes, decoded, until the time is over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.socket.poll(int(left * 1000) + 1):
                frame = self.socket.recv()
                first = frame[0]
                yield p.decode_reports(frame) if first == p.REPORTS_MAGIC else p.decode_from_exchange(frame)

    def wait(self, kind: type | tuple[type, ...], seconds: float = ANSWER_SECONDS) -> Any:
        """The next message of a kind; CardFailed when none comes."""
        for message in self.frames(seconds):
            if isinstance(message, kind):
                return message
        raise CardFailed(f"no {kind} within {seconds} s")

    def login(self, **fields: Any) -> Any:
        """LoginAccepted or LoginRejected."""
        message = p.Login(**{"version": p.PROTOCOL_VERSION, "claim": self.link.secret.public, **fields})
        self.send(message)
        answer = self.wait((p.LoginAccepted, p.LoginRejected))
        if isinstance(answer, p.LoginAccepted):
            self.accepted = answer
        return answer

    def ready(self, **fields: Any) -> p.LoginAccepted:
        """Logs in and waits for ResyncDone."""
        answer = self.login(**{"resume": "quick", **fields})
        expect(isinstance(answer, p.LoginAccepted), f"the login was refused: {answer}")
        self.wait(p.ResyncDone)
        found: p.LoginAccepted = answer
        return found

    def reports_until(self, fits: Callable[[np.void], bool]) -> list[tuple[int, np.void, int]]:
        """(number, event, flags) of all reports up to the first that fits and the rest of its frame."""
        found: list[tuple[int, np.void, int]] = []
        for message in self.frames():
            if isinstance(message, p.SessionReject):
                raise CardFailed(f"refused by the session layer: {message.text}")
            if isinstance(message, p.Reports):
                found += [(message.first_no + i, e, message.flags) for i, e in enumerate(message.events)]
                if any(fits(e) for e in message.events):
                    return found
        raise CardFailed("the report did not come")


class Bench:
    """What cards are given: where, keys, an instrument and a price inside its limits."""

    def __init__(
        self, where: str | os.PathLike[str], key: str | keyfile.Secret, second: str | keyfile.Secret | None = None
    ) -> None:
        self.where, self.key, self.second = where, key, second

    def probe(self) -> Probe:
        """A new bare connection of the key."""
        return Probe(self.where, self.key)


def expect(condition: bool, otherwise: str) -> None:
    """CardFailed unless the condition holds."""
    if not condition:
        raise CardFailed(otherwise)


def order(probe: Probe, request_no: int, **fields: Any) -> bytes:
    """One order record: an immediate-or-cancel buy of one tonne at the lower limit, unless said otherwise."""
    assert probe.accepted is not None
    instrument = probe.accepted.instruments[0]
    record = np.zeros(1, COMMAND)
    record["kind"], record["order_type"], record["quantity"] = NEW, IOC, 1
    record["instrument"], record["price"] = instrument.index, instrument.limit_low
    record["token"], record["request_no"] = probe.token, request_no
    for name, value in fields.items():
        record[name] = value
    return record.tobytes()


def answers(request_no: int) -> Callable[[np.void], bool]:
    """Fits the first report of a request."""
    return lambda e: int(e["ref"]) == request_no and int(e["kind"]) not in (FILL_MAKER, FILL_TAKER)


def card_login(bench: Bench) -> None:
    with bench.probe() as one:
        a = one.ready()
        expect(a.version == p.PROTOCOL_VERSION and a.token != 0, "no token")
        expect(1 <= a.first_report <= a.next_report and a.next_request >= 1, "numbers do not begin at 1")
        expect(a.heartbeat_ms > 0 and a.epoch >= 1 and a.time_ns > 0, "limits are missing")


def card_version(bench: Bench) -> None:
    with bench.probe() as one:
        answer = one.login(version=p.PROTOCOL_VERSION + 1)
        expect(getattr(answer, "code", 0) == Code.WRONG_VERSION, f"answered {answer}")


def card_account(bench: Bench) -> None:
    with bench.probe() as one:
        answer = one.login(account=1 << 31)
        expect(getattr(answer, "code", 0) == Code.WRONG_ACCOUNT, f"answered {answer}")


def card_takeover(bench: Bench) -> None:
    with bench.probe() as old, bench.probe() as new:
        old.ready()
        new.ready()
        expect(old.wait(p.LoggedOut).code == Code.SESSION_IN_USE, "the old connection was told something else")
        old.send(order(old, old.accepted.next_request))  # type: ignore[union-attr]
        expect(old.wait(p.SessionReject).code == Code.NOT_LOGGED_IN, "the old token is still good")


def card_missed_reports(bench: Bench) -> None:
    with bench.probe() as one:
        start = one.ready()
        one.send(order(one, start.next_request))
        mine = one.reports_until(answers(start.next_request))
    with bench.probe() as again:
        accepted = again.login(resume="resume", last_report=start.next_report - 1)
        seen: list[tuple[int, bytes]] = []
        for message in again.frames():
            if isinstance(message, p.Reports):
                expect(bool(message.flags & p.POSSIBLE_DUPLICATE), "old reports are not flagged")
                seen += [(message.first_no + i, e.tobytes()) for i, e in enumerate(message.events)]
            elif isinstance(message, p.ResyncDone):
                expect(message.next_report == accepted.next_report, "ResyncDone names another number")
                break
        expect(seen[: len(mine)] == [(n, e.tobytes()) for n, e, _ in mine], "the bytes differ")
        expect([n for n, _ in seen] == list(range(start.next_report, accepted.next_report)), "a number is missing")


def card_retransmit(bench: Bench) -> None:
    with bench.probe() as one:
        start = one.ready()
        for i in range(3):
            one.send(order(one, start.next_request + i))
        mine = one.reports_until(answers(start.next_request + 2))
        first, last = mine[0][0], mine[-1][0]
        one.send(p.Retransmit(token=one.token, first=first, last=last))
        seen: list[int] = []
        for message in one.frames():
            if isinstance(message, p.Reports):
                seen += range(message.first_no, message.first_no + len(message.events))
            elif isinstance(message, p.ResyncDone):
                break
        expect(seen == list(range(first, last + 1)), f"asked for {first} … {last}, came {seen}")


def card_repeat(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no))
        first = [e.tobytes() for _, e, _ in one.reports_until(answers(no)) if int(e["seq"])]
        one.send(order(one, no))
        again = one.wait(p.Reports)
        expect(bool(again.flags & p.REPEATED), "not flagged as repeated")
        expect([e.tobytes() for e in again.events] == first[-len(again.events) :], "another outcome")


def card_mismatch(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no))
        one.reports_until(answers(no))
        one.send(order(one, no, quantity=2))
        expect(one.wait(p.SessionReject).code == Code.REQUEST_MISMATCH, "not refused as a mismatch")


def card_gap(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no + 5))
        reject = one.wait(p.SessionReject)
        expect(reject.code == Code.REQUEST_GAP and reject.expected == no, f"answered {reject}")
        one.send(order(one, no))
        one.reports_until(answers(no))


def card_unknown_outcome(bench: Bench) -> None:
    with bench.probe() as one:
        start = one.ready()
        one.send(order(one, start.next_request))  # and the connection is gone before the answer
    with bench.probe() as again:
        accepted = again.login(resume="resume", last_report=start.next_report - 1)
        reported = False
        for message in again.frames():
            if isinstance(message, p.Reports):
                reported |= any(answers(start.next_request)(e) for e in message.events)
            elif isinstance(message, p.ResyncDone):
                break
        expect(reported == (accepted.next_request == start.next_request + 1), "a request without a report was executed")


def card_order_of_reports(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        for i in range(5):
            one.send(order(one, no + i))
        seen = one.reports_until(answers(no + 4))
        seqs = [int(e["seq"]) for _, e, _ in seen]
        expect(seqs == sorted(seqs) and min(seqs) > 0, "reports are not in journal order")
        for i in range(5):
            kinds = [int(e["kind"]) for _, e, _ in seen if answers(no + i)(e)]
            expect(kinds[0] in (ACCEPTED, REJECTED), "an acceptance does not come first")
        expect([n for n, _, _ in seen] == list(range(seen[0][0], seen[0][0] + len(seen))), "numbers have gaps")


def card_times(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no))
        page = one.wait(p.Reports)
        expect(int(page.events[0]["time_ns"]) > 0 and page.sent_ns > 0, "a time is missing")
        expect(page.received_ns <= page.sent_ns, "sent before it was received")


def card_heartbeat(bench: Bench) -> None:
    with bench.probe() as one:
        one.ready(heartbeat_ms=500)
        expect(isinstance(one.wait(p.Heartbeat), p.Heartbeat), "no heartbeat came")


def card_reserved(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        for field in ("account", "time_ns"):
            one.send(order(one, no, **{field: 1}))
            expect(one.wait(p.SessionReject).code == Code.RESERVED_FIELD, f"{field} was taken from the client")


def card_malformed(bench: Bench) -> None:
    with bench.probe() as one:
        one.ready()
        for junk in (b"\x80", b"\xff\xff", b"\x00" * 63, b"\x81\xa1t\xa1\xff"):
            one.send(junk)
            expect(one.wait(p.SessionReject).code in (Code.MALFORMED, Code.NOT_LOGGED_IN), "junk was not refused")


def card_mass_cancel(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        resting(one, no)
        one.send(order(one, no + 1, kind=MASS_CANCEL, instrument=ANY_INSTRUMENT, side=ANY_SIDE, price=0, quantity=0))
        seen = one.reports_until(answers(no + 1))
        mine = [e for _, e, _ in seen if int(e["ref"]) == no + 1]
        if int(mine[-1]["kind"]) == REJECTED:
            raise refused(mine[-1])
        summaries = [e for e in mine if int(e["kind"]) == MASS_CANCELLED]
        cancelled = [e for e in mine if int(e["kind"]) == CANCELLED]
        expect(bool(cancelled), "the order was not cancelled")
        expect(len(summaries) == 1 and int(summaries[0]["quantity"]) == len(cancelled), "the summary does not add up")


def card_stale(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no, flags=EXPIRES, order_id=1))
        last = next(e for _, e, _ in one.reports_until(answers(no)) if answers(no)(e))
        expect(int(last["kind"]) == REJECTED and int(last["reason"]) == Code.STALE, "an expired order was taken")


def card_roles(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        payload = messages.encode(messages.Halt(why="a member cannot"))
        one.send(order(one, no, kind=MESSAGE, quantity=len(payload), price=0, instrument=0, order_type=0) + payload)
        expect(one.wait(p.SessionReject).code == Code.ROLE_NOT_ALLOWED, "a member's halt was taken")


def card_open_orders(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no, order_type=0))
        report = next(e for _, e, _ in one.reports_until(answers(no)) if answers(no)(e))
        one.send(p.Query(token=one.token, id=7, what="open_orders"))
        answer = one.wait(p.Answer)
        expect(answer.seq >= int(report["seq"]), "the answer is older than a report before it")
        if int(report["kind"]) != ACCEPTED:
            raise refused(report)
        rests = int(report["order_id"]).to_bytes(8, "little") in answer.data["orders"]
        one.send(order(one, no + 1, kind=CANCEL, order_id=int(report["order_id"]), price=0, quantity=0))
        one.reports_until(answers(no + 1))
        expect(rests, "the open order is not in the download")


def card_unknown_token(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        one.send(order(one, no, token=12_345))
        expect(one.wait(p.SessionReject).code == Code.NOT_LOGGED_IN, "a foreign token was taken")


def refused(report: np.void) -> NotTried:
    """Why a card could not be tried, from the rejection of its order."""
    code = int(report["reason"])
    return NotTried(f"the market refused the order that it needs: {TEXT_EN[Code(code)]} (code {code})")


def resting(probe: Probe, request_no: int) -> np.void:
    """Sends an order that rests; its acceptance. Raises NotTried."""
    probe.send(order(probe, request_no, order_type=0))
    report: np.void = next(e for _, e, _ in probe.reports_until(answers(request_no)) if answers(request_no)(e))
    if int(report["kind"]) != ACCEPTED:
        raise refused(report)
    return report


def disconnected(order_id: int) -> Callable[[np.void], bool]:
    """Fits the report that an order was cancelled because its session was gone."""
    return lambda e: (int(e["kind"]), int(e["order_id"]), int(e["reason"])) == (CANCELLED, order_id, Reason.DISCONNECT)


def card_cancel_on_disconnect(bench: Bench) -> None:
    with bench.probe() as one:
        start = one.ready(cancel_on_disconnect_ms=0)
        mine = resting(one, start.next_request)
        one.send(p.Logout(token=one.token))
        one.wait(p.LoggedOut)
    time.sleep(DISCONNECT_SECONDS)
    with bench.probe() as again:
        again.login(resume="resume", last_report=start.next_report - 1)
        again.reports_until(disconnected(int(mine["order_id"])))


def card_stays_on_disconnect(bench: Bench) -> None:
    with bench.probe() as one:
        mine = resting(one, one.ready().next_request)
        one.send(p.Logout(token=one.token))
        one.wait(p.LoggedOut)
    time.sleep(DISCONNECT_SECONDS)
    with bench.probe() as again:
        no = again.ready().next_request
        again.send(order(again, no, kind=CANCEL, order_id=int(mine["order_id"]), price=0, quantity=0))
        seen = again.reports_until(answers(no))
        expect(any(int(e["kind"]) == CANCELLED for _, e, _ in seen), "the order was not there any more")


def card_dead_man(bench: Bench) -> None:
    with bench.probe() as one:
        mine = resting(one, one.ready().next_request)
        one.send(p.DeadMan(token=one.token, within_ms=100))
        one.reports_until(disconnected(int(mine["order_id"])))


def card_malformed_logout(bench: Bench) -> None:
    with bench.probe() as one:
        no = one.ready().next_request
        for _ in range(MALFORMED_MAX):
            one.send(order(one, no, kind=MESSAGE, quantity=5))  # a payload that is not there
        refused = 0
        for message in one.frames():
            refused += isinstance(message, p.SessionReject) and message.code == Code.MALFORMED
            if isinstance(message, p.LoggedOut):
                expect(refused > 0, "logged out without a word before")
                return
        raise CardFailed(f"still logged in after {MALFORMED_MAX} messages that cannot be read")


CARDS: Final = tuple(
    Card(number, title, text, run)
    for number, (title, text, run) in enumerate(
        (
            ("Login", "A login is answered with token, next numbers both ways, limits, phase.", card_login),
            ("Wrong version", "A login of another protocol version is refused as WRONG_VERSION (205).", card_version),
            ("Wrong account", "A login that names another account is refused as WRONG_ACCOUNT (206).", card_account),
            ("Take-over", "A second login of the same key takes over; the old connection is told, its token is void.",
             card_takeover),
            ("Missed reports", "After a resume the missed reports come first, byte for byte, flagged as possible "
             "duplicates; then ResyncDone.", card_missed_reports),
            ("Retransmission", "Any range of the day's reports can be asked for again.", card_retransmit),
            ("Repeated request", "The same request_no with the same content is answered with the original outcome.",
             card_repeat),
            ("Mismatch", "The same request_no with other content is refused as REQUEST_MISMATCH (203).", card_mismatch),
            ("Gap", "A request_no that is not the next one is not applied; the reject names what was expected.",
             card_gap),
            ("No report, not executed", "After ResyncDone a request without a report was not executed.",
             card_unknown_outcome),
            ("Order of reports", "Reports are in journal order, without gaps; an acceptance comes before its fills.",
             card_order_of_reports),
            ("Times", "Every report bears its sequenced time; its frame the times of receipt and sending.", card_times),
            ("Heartbeats", "The exchange speaks at least once in the agreed interval.", card_heartbeat),
            ("Reserved fields", "seq, time_ns and account are the exchange's to fill: RESERVED_FIELD (212).",
             card_reserved),
            ("Malformed", "What cannot be read is refused and counted; it never ends the exchange.", card_malformed),
            ("Mass cancel", "A mass cancel reports each order and then one summary that adds up.", card_mass_cancel),
            ("Stale guard", "An order whose expiry has passed when it is sequenced is refused as STALE (5).",
             card_stale),
            ("Roles", "What the key's role does not allow is refused as ROLE_NOT_ALLOWED (210).", card_roles),
            ("Open orders", "The download is complete up to the journal sequence that it names.", card_open_orders),
            ("Tokens", "A record with a token that is not the session's is refused as NOT_LOGGED_IN (201).",
             card_unknown_token),
            ("Cancel on disconnect", "Chosen at login, open orders are cancelled once their session is gone so long.",
             card_cancel_on_disconnect),
            ("Orders stay", "Not chosen, which is the default, open orders outlive the session.",
             card_stays_on_disconnect),
            ("Dead-man switch", "Armed and not armed again in time, it cancels the session's open orders.",
             card_dead_man),
            ("Malformed to the end", "A session that goes on sending what cannot be read is logged out.",
             card_malformed_logout),
        ),
        1,
    )
)  # fmt: skip


def prove_login(where: str | os.PathLike[str], key: str | keyfile.Secret, seconds: float = ANSWER_SECONDS) -> None:
    """Before any card: the key is known and a trader's. Raises GatewayError with the reason, so that a wrong key or
    address is one clear sentence and not twenty failed cards."""
    link = Connection(where, key, timeout=seconds, resume="quick")
    try:
        link.open()
        assert link.login is not None
        if link.login.role != "trader":
            raise GatewayError(f"the key {link.secret.name} is a {link.login.role}'s; the cards need a trader's")
    finally:
        link.close()


def certify(
    where: str | os.PathLike[str], key: str | keyfile.Secret, only: Callable[[Card], bool] = lambda card: True
) -> list[Result]:
    """Runs the cards against an exchange with a trader's key; what each one found."""
    bench = Bench(where, key)
    results = []
    for card in CARDS:
        if not only(card):
            continue
        try:
            card.run(bench)
        except (CardFailed, ValueError) as failed:
            results.append(Result(card.number, card.title, False, str(failed)))
        except NotTried as why:
            results.append(Result(card.number, card.title, False, str(why), tried=False))
        else:
            results.append(Result(card.number, card.title, True, ""))
    return results
