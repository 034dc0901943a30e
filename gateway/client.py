"""The member's client: synchronous, typed, and never unsure without saying so.

    with Client("market", key="member-1") as me:
        order = me.buy("CEA24", "59.50", 1_000)
        print(order.status, order.filled, order.average_price)
        me.cancel(order.order_id)

Every call waits for its durable outcome. A lost connection is made anew, missed reports are fetched, and a request
that the exchange has not seen is sent again under the same number; what cannot be settled in time raises
:class:`UnknownOutcome` and stays open until it is.

Prices are decimal text ("59.50") or fen as int; quantities are whole tonnes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import numpy as np

from engine import messages
from engine.calendar import format_time
from engine.codes import REASON_EN, TEXT_EN, Code
from engine.records import (
    ACCEPTED,
    ANY_INSTRUMENT,
    ANY_SIDE,
    BEST_FIVE,
    BUY,
    CANCEL,
    CANCELLED,
    COMMAND,
    EXPIRES,
    FILL_MAKER,
    FILL_TAKER,
    FOK,
    IOC,
    LIMIT,
    MASS_CANCEL,
    MASS_CANCELLED,
    MESSAGE,
    NEW,
    NOTICE,
    POST_ONLY,
    REDUCE,
    REDUCED,
    REJECTED,
    REPLACE,
    REPLACED,
    SELL,
    TAKE,
)
from engine.state import OPEN_ORDER
from gateway import keys as keyfile
from gateway import protocol as p
from gateway.connection import (
    Connection,
    GatewayError,
    LoggedOut,
    LoginRefused,
    NoAnswer,
    Report,
    SessionRejected,
    UnknownOutcome,
)

__all__ = [
    "Client",
    "Fill",
    "GatewayError",
    "LoggedOut",
    "LoginRefused",
    "NoAnswer",
    "Order",
    "Outcome",
    "Refusal",
    "Report",
    "SessionRejected",
    "UnknownOutcome",
    "price_fen",
]

TYPES: Final = {"limit": LIMIT, "ioc": IOC, "fok": FOK, "best_five": BEST_FIVE, "post_only": POST_ONLY}
# Reports kept for `reports()`: whoever does not read them loses the oldest, never the client's own state.
REPORTS_KEPT: Final = 200_000


class Fill(msgspec.Struct, frozen=True):
    """One deal of an order of ours; of a drop copy, of its accounts'."""

    order_id: int
    instrument: str
    side: str
    price: int
    quantity: int
    deal: int
    time_ns: int
    maker: bool
    account: int


class Order(msgspec.Struct):
    """A listed order of this session as its reports tell it. Prices in fen, quantities in t.

    ``status``: accepted (已申报), partly_filled (部分成交), filled (已成交), cancelled (已撤单),
    system_cancelled (系统撤单), rejected (R5.4).
    """

    request_no: int
    instrument: str
    side: str
    price: int
    quantity: int
    order_id: int = 0
    leaves: int = 0
    filled: int = 0
    amount: int = 0
    status: str = "sent"
    code: int = 0
    text: str = ""
    seq: int = 0
    time_ns: int = 0
    fills: list[Fill] = []

    @property
    def accepted(self) -> bool:
        """False where the exchange refused it."""
        return self.status not in ("rejected", "sent")

    @property
    def open(self) -> bool:
        """True while it can trade."""
        return self.status in ("accepted", "partly_filled")

    @property
    def average_price(self) -> float:
        """CNY per tonne over its fills, for display only."""
        return self.amount / self.filled / 100 if self.filled else 0.0


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request that is not a new order: ``ok``, or ``code`` and ``text``."""

    request_no: int
    ok: bool
    code: int = 0
    text: str = ""
    order_id: int = 0
    quantity: int = 0
    data: dict[str, Any] = {}


class Refusal(GatewayError):
    """A slow-lane command was refused by the exchange; ``code`` and ``field`` say why."""

    def __init__(self, refused: dict[str, Any]) -> None:
        super().__init__(f"{refused.get('field') or refused.get('command')}: {refused.get('text')}", refused["code"])
        self.field = refused.get("field", "")


def price_fen(price: str | int) -> int:
    """ "59.50" → 5950; a whole number is fen already. ValueError names the value. No float ever."""
    wrong = f"price {price!r}: expected yuan with at most two decimals, as text, or fen as int"
    if not isinstance(price, str):
        return _whole("price", price, wrong=wrong)
    whole, dot, part = price.partition(".")
    if not (
        whole.isascii() and whole.isdigit() and (not dot or (part.isascii() and part.isdigit() and len(part) <= 2))
    ):
        raise ValueError(wrong)
    return _whole("price", int(whole) * 100 + int(part.ljust(2, "0") if part else 0))


def _whole(field: str, value: object, *, least: int = -(2**63), wrong: str = "") -> int:
    """A whole number that a record holds. ValueError names the field: numpy would cut 1.5 to 1, and send that."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(wrong or f"{field} {value!r}: expected a whole number")
    most = least + 2**64 - 1
    if not least <= value <= most:
        raise ValueError(f"{field} {value}: expected {least} to {most}")
    return int(value)


def _row(order: tuple[Any, ...]) -> tuple[Any, ...]:
    """An order of a batch with all its six fields."""
    if not 4 <= len(order) <= 6:
        raise ValueError(f"order {order!r}: expected side, code, price, quantity[, type[, expires_ns]]")
    return (*order, *("limit", 0)[len(order) - 4 :])


def _side(side: str | int) -> int:
    sides: dict[str | int, int] = {"buy": BUY, "sell": SELL, "B": BUY, "S": SELL, BUY: BUY, SELL: SELL}
    found = sides.get(side) if isinstance(side, str | int) else None
    if found is None:
        raise ValueError(f"side {side!r}: expected buy or sell")
    return found


class Client:
    """A member's session. A context manager; not for several threads."""

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        key: str | keyfile.Secret,
        timeout: float = 10.0,
        resume: str = "restart",
        cancel_on_disconnect_ms: int = -1,
        heartbeat_ms: int = p.HEARTBEAT_MS,
        server_public: str = "",
        connect: bool = True,
        plane: str = "members",
        **link: Any,
    ) -> None:
        """where: a market folder, or ``tcp://host:port``. key: its name in the folder's keys/, or a key file.

        timeout: seconds that a call waits for its outcome. resume: ``restart`` fetches all reports of the day, so
        that :meth:`orders` and :meth:`fills` are complete; ``quick`` none.
        """
        self.link = Connection(
            where,
            key,
            plane=plane,
            timeout=timeout,
            resume=resume,
            heartbeat_ms=heartbeat_ms,
            cancel_on_disconnect_ms=cancel_on_disconnect_ms,
            server_public=server_public,
            on_report=self._report,
            on_stream=self._stream_event,
            **link,
        )
        self.by_id: dict[int, Order] = {}
        self.by_request: dict[int, Order] = {}
        self.outcomes: dict[int, Outcome] = {}
        self._fills: list[Fill] = []
        self._queue: deque[Report] = deque(maxlen=REPORTS_KEPT)
        self._stream: deque[Report] = deque(maxlen=REPORTS_KEPT)
        if connect:
            self.link.open()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Logs out. Open orders stay, unless cancel-on-disconnect was chosen."""
        self.link.close()

    # --- what arrives ----------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        self._queue.append(report)
        e = report.event
        kind, ref, order_id = int(e["kind"]), int(e["ref"]), int(e["order_id"])
        if int(e["session"]) not in (0, self.link.session):  # a drop copy's report of somebody else's session
            if kind in (FILL_MAKER, FILL_TAKER):
                self._filled(e, None)
            return
        if kind == NOTICE:
            self._notice(report, ref)
            return
        order = self.by_id.get(order_id)
        if kind == ACCEPTED:
            self._accepted(e, ref)
        elif kind == REJECTED:
            self._rejected(e, ref)
        elif kind in (FILL_MAKER, FILL_TAKER):
            self._filled(e, order)
        elif kind == CANCELLED:
            self._cancelled(e, order, ref)
        elif kind in (REDUCED, REPLACED):
            if order is not None:
                order.leaves = int(e["leaves"])
                order.price = int(e["price"])
                order.quantity = int(e["quantity"]) if kind == REPLACED else order.quantity - int(e["quantity"])
            self.outcomes[ref] = Outcome(ref, True, order_id=order_id, quantity=int(e["quantity"]))
        elif kind == MASS_CANCELLED:
            self.outcomes[ref] = Outcome(ref, True, quantity=int(e["quantity"]))

    def _accepted(self, e: np.void, ref: int) -> None:
        order = self.by_request.get(ref)
        if order is None:  # of an earlier life of this client
            order = self.by_request[ref] = Order(ref, self.code_of(int(e["instrument"])), _side_name(e), 0, 0)
        order.order_id, order.price = int(e["order_id"]), int(e["price"])
        order.quantity = order.leaves = int(e["quantity"])
        order.status, order.seq, order.time_ns = "accepted", int(e["seq"]), int(e["time_ns"])
        self.by_id[order.order_id] = order
        self.outcomes[ref] = Outcome(ref, True, order_id=order.order_id)

    def _rejected(self, e: np.void, ref: int) -> None:
        code, opens_ns = int(e["reason"]), int(e["leaves"])
        text = TEXT_EN.get(code, f"code {code}")
        if opens_ns:  # before the open or in the break (D15)
            text += f": the market opens at {format_time(opens_ns)}"
        order = self.by_request.get(ref)
        if order is not None and order.status == "sent":
            order.status, order.code, order.text, order.seq = "rejected", code, text, int(e["seq"])
        self.outcomes[ref] = Outcome(ref, False, code, text, int(e["order_id"]))

    def _filled(self, e: np.void, order: Order | None) -> None:
        fill = Fill(
            int(e["order_id"]),
            order.instrument if order is not None else self.code_of(int(e["instrument"])),
            _side_name(e),
            int(e["price"]),
            int(e["quantity"]),
            int(e["ref"]),
            int(e["time_ns"]),
            int(e["kind"]) == FILL_MAKER,
            int(e["account"]),
        )
        self._fills.append(fill)
        if order is None:
            return
        order.fills.append(fill)
        order.filled += fill.quantity
        order.amount += fill.price * fill.quantity
        order.leaves = int(e["leaves"])
        order.status = "partly_filled" if order.leaves else "filled"

    def _cancelled(self, e: np.void, order: Order | None, ref: int) -> None:
        reason = int(e["reason"])
        if order is not None:
            order.leaves = 0
            order.status = "cancelled" if reason in (0, 5, 6, 7) else "system_cancelled"
            order.text = REASON_EN.get(reason, "")
        if ref:
            self.outcomes[ref] = Outcome(
                ref, True, order_id=int(e["order_id"]), quantity=int(e["quantity"]), text=REASON_EN.get(reason, "")
            )

    def _notice(self, report: Report, ref: int) -> None:
        notice = report.notice or {}
        if ref and notice.get("t") == "done":
            self.outcomes[ref] = Outcome(ref, True, data=notice.get("data", {}))
        elif ref and notice.get("t") == "refused":
            self.outcomes[ref] = Outcome(ref, False, notice["code"], notice.get("text", ""), data=notice)

    def _stream_event(self, report: Report) -> None:
        self._stream.append(report)

    # --- names -----------------------------------------------------------------------------------------------

    def code_of(self, instrument: int) -> str:
        """The code of an instrument's number."""
        login = self.link.login
        found = next((i.code for i in login.instruments if i.index == instrument), None) if login else None
        return found if found is not None else f"#{instrument}"

    def _instrument(self, code: str) -> int:
        login = self.link.login
        assert login is not None, "logged in"
        for i in login.instruments:
            if i.code == code:
                return i.index
        listed = tuple(p.Instrument(*row) for row in self.link.query("instruments"))  # some of them since our login
        self.link.login = login = msgspec.structs.replace(login, instruments=listed)
        for i in listed:
            if i.code == code:
                return i.index
        raise ValueError(f"instrument {code!r}: not listed; there are {', '.join(i.code for i in login.instruments)}")

    @property
    def account(self) -> int:
        """The trading account of the key."""
        return self.link.login.account if self.link.login is not None else 0

    # --- orders ----------------------------------------------------------------------------------------------

    def buy(self, code: str, price: str | int, quantity: int, *, type: str = "limit", expires_ns: int = 0) -> Order:
        """A buy order; returns when its outcome is durable. See :meth:`order`."""
        return self.order("buy", code, price, quantity, type=type, expires_ns=expires_ns)

    def sell(self, code: str, price: str | int, quantity: int, *, type: str = "limit", expires_ns: int = 0) -> Order:
        """A sell order; returns when its outcome is durable. See :meth:`order`."""
        return self.order("sell", code, price, quantity, type=type, expires_ns=expires_ns)

    def order(
        self, side: str, code: str, price: str | int, quantity: int, *, type: str = "limit", expires_ns: int = 0
    ) -> Order:
        """A listed order. type: limit, ioc, fok, best_five (price 0: the day's limit), post_only.

        expires_ns: refused as stale when it is sequenced after that time. A refusal by the market's rules is an
        Order with status ``rejected``, code and text. Raises SessionRejected, UnknownOutcome.
        """
        return self.send_batch([(side, code, price, quantity, type, expires_ns)])[0]

    def send_batch(self, orders: Iterable[tuple[Any, ...]]) -> list[Order]:
        """Several orders (side, code, price, quantity[, type[, expires_ns]]), as many in a frame as may be; waits for
        all. Raises ValueError where one cannot be understood: then none was sent."""
        rows = [_row(order) for order in orders]
        if not self.link.active:
            self.link.open()
        records = np.zeros(len(rows), COMMAND)
        for record, (side, code, price, quantity, kind, expires_ns) in zip(records, rows, strict=True):
            if kind not in TYPES:
                raise ValueError(f"type {kind!r}: expected one of {', '.join(TYPES)}")
            record["kind"], record["side"], record["order_type"] = NEW, _side(side), TYPES[kind]
            record["instrument"], record["price"] = self._instrument(code), price_fen(price)
            record["quantity"] = _whole("quantity", quantity)
            if expires_ns:
                record["flags"], record["order_id"] = EXPIRES, _whole("expires_ns", expires_ns, least=0)
        assert self.link.login is not None, "an active session has logged in"
        most = self.link.login.frame_records_max
        made: list[Order] = []
        numbers: list[int] = []
        for start in range(0, len(rows), most):
            part = records[start : start + most]
            if not self.link.active:
                self.link.open()
            first = self.link.next_request
            for i, (record, row) in enumerate(zip(part, rows[start : start + most], strict=True)):
                order = Order(
                    first + i, row[1], "buy" if record["side"] == BUY else "sell", int(record["price"]), row[3]
                )
                self.by_request[first + i] = order
                made.append(order)
            numbers += self.link.request(part)
        self.link.result(numbers)
        return made

    def _change(self, kind: int, order_id: int, **fields: int) -> Outcome:
        record = np.zeros(1, COMMAND)
        record["kind"], record["order_id"] = kind, _whole("order_id", order_id, least=0)
        for name, value in fields.items():
            record[name] = _whole(name, value)
        numbers = self.link.request(record)
        self.link.result(numbers)
        return self.outcomes[numbers[0]]

    def cancel(self, order_id: int) -> Outcome:
        """Cancels what is unfilled of an order (R5.3)."""
        return self._change(CANCEL, order_id)

    def reduce(self, order_id: int, quantity: int) -> Outcome:
        """Takes ``quantity`` away and keeps the order's priority."""
        return self._change(REDUCE, order_id, quantity=quantity)

    def replace(self, order_id: int, price: str | int, quantity: int) -> Outcome:
        """New price and new total quantity, what is filled included (D11)."""
        return self._change(REPLACE, order_id, price=price_fen(price), quantity=quantity)

    def take(self, order_id: int, quantity: int) -> Outcome:
        """Takes a quantity of one listing, under the `listing` policy (R8.4)."""
        return self._change(TAKE, order_id, quantity=quantity)

    def mass_cancel(self, code: str | None = None, side: str | None = None) -> Outcome:
        """Cancels all of the account's open listed orders that fit; ``quantity`` of the outcome says how many."""
        instrument = ANY_INSTRUMENT if code is None else self._instrument(code)
        return self._change(MASS_CANCEL, 0, instrument=instrument, side=ANY_SIDE if side is None else _side(side))

    def execute(self, message: Any) -> Outcome:
        """Any slow-lane command: bulk desk, auction, withdrawal, transfer. Raises Refusal with code and field."""
        payload = messages.encode(message)
        record = np.zeros(1, COMMAND)
        record["kind"], record["quantity"] = MESSAGE, len(payload)
        numbers = self.link.request(record, payload)
        self.link.result(numbers)
        outcome = self.outcomes.get(numbers[0])
        if outcome is None:  # its answer is a notice of another kind
            return Outcome(numbers[0], True)
        if not outcome.ok:
            raise Refusal(outcome.data or {"code": outcome.code, "text": outcome.text, "field": ""})
        return outcome

    # --- reading ---------------------------------------------------------------------------------------------

    def poll(self, timeout: float = 0.0) -> list[Report]:
        """Reports that have arrived and were not read yet; waits up to ``timeout`` seconds for one."""
        if not self._queue:
            self.link.wait(lambda: bool(self._queue), int(timeout * 1e9))
        if not timeout:
            self.link.pump()
        found = list(self._queue)
        self._queue.clear()
        return found

    def reports(self, timeout: float | None = None) -> Iterator[Report]:
        """Reports as they come; ends after ``timeout`` seconds without one (None: never)."""
        while True:
            found = self.poll(3600.0 if timeout is None else timeout)
            if not found and timeout is not None:
                return
            yield from found

    def wait_for(self, wanted: str | Any, timeout: float = 10.0) -> Report | None:
        """The next report that fits: a notice's type ("bulk_thread") or a function of it. None: time is over."""
        fits = (lambda r: r.notice is not None and r.notice.get("t") == wanted) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + timeout
        while True:
            while self._queue:
                report = self._queue.popleft()
                if fits(report):
                    return report
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.link.wait(lambda: bool(self._queue), int(left * 1e9))

    def sync(self) -> None:
        """Takes everything that the exchange has sent up to now."""
        self.link.query("time")

    def orders(self, *, only_open: bool = False) -> list[Order]:
        """This session's orders of the day, up to now."""
        self.sync()
        return [o for o in self.by_request.values() if o.open or not only_open]

    def fills(self) -> list[Fill]:
        """This session's fills of the day, up to now; a drop copy's, those of its accounts."""
        self.sync()
        return list(self._fills)

    def open_orders(self) -> np.ndarray:
        """All open listed orders of the account, of whichever session: OPEN_ORDER records, from the exchange."""
        return np.frombuffer(bytearray(b"".join(self.link.query_pages("open_orders", "orders"))), OPEN_ORDER)

    def balances(self) -> list[dict[str, Any]]:
        """Cash (fen) and holdings (t) of the account (R5.6); a drop copy sees those of its accounts."""
        found: list[dict[str, Any]] = self.link.query("balances")
        return found

    def negotiations(self) -> list[dict[str, Any]]:
        """The account's dialogues at the bulk desk that have ended today: terms, how they ended, every step."""
        found: list[dict[str, Any]] = []
        first = 0
        while True:
            data = self.link.query("negotiations", first=first)
            found += data["dialogues"]
            first = data["next"]
            if not first:
                return found

    def time(self) -> dict[str, Any]:
        """Exchange time, phase and today's boundaries."""
        found: dict[str, Any] = self.link.query("time")
        return found

    # --- safety ----------------------------------------------------------------------------------------------

    def dead_man(self, within_ms: int) -> None:
        """Arms the dead-man switch; call again in time, or all orders of the session are cancelled. -1 disarms.

        A new login disarms it. Raises ValueError, NoAnswer where it could not be sent.
        """
        self.link.tell(lambda: p.DeadMan(token=self.link.token, within_ms=within_ms))

    def kill(self, why: str = "") -> None:
        """Own kill switch: cancels everything and leaves the account cancel-only; only operators undo it.

        Raises ValueError, NoAnswer where it could not be sent.
        """
        self.link.tell(lambda: p.Kill(token=self.link.token, why=why))


def _side_name(e: np.void) -> str:
    return "buy" if int(e["side"]) == BUY else "sell"


assert Code.OK == 0
