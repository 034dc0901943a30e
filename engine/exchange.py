"""The exchange as one deterministic object: commands in, events out, no clock and no I/O (guarantee 1).

``apply`` is the one path of live trading, recovery and replay. The hot lane (kinds 1 … 6) runs in
``engine.kernel``; a command of kind MESSAGE is decoded and handed to the state machine that knows it:
administration, desk, auctions. Both lanes work on the same tables, in one sequence.

For embedding (docs/embedding.md): ``submit`` numbers and times a batch by itself, ``execute`` does the same for
one slow-lane message, ``advance`` steps the clock.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash

from engine import kernel, messages, state
from engine.administration import Administration
from engine.auction import Auctions
from engine.auction_messages import AUCTION_COMMANDS
from engine.bulk import Desk
from engine.bulk_messages import BULK_COMMANDS
from engine.calendar import TradingCalendar
from engine.codes import TEXT_EN, Code
from engine.lane import Envelope, Notice, Refusal, StateMachine
from engine.machine_code import entry_address
from engine.market import SESSION, Capacity, Market
from engine.memory import aligned_zeros
from engine.records import ANY_INSTRUMENT, BUY, COMMAND, EVENT, MESSAGE, NO_ACCOUNT, NOTICE, REJECTED, SELL
from engine.rules import Rules
from engine.single_call import CALL, single_call
from engine.words import WORD_BYTES, octets, word_of, words

EVENT_CAPACITY = 1 << 15  # 2 MB: the events of 8,192 ordinary commands; when it is full the kernel goes on after a copy
# The slow lane's records by struct: a tenth of the time of numpy's fields. Of a COMMAND of kind MESSAGE: seq, time_ns,
# quantity, request_no, account, session. Of an EVENT whose price, leaves and order_id are zero: all others.
MESSAGE_HEAD = struct.Struct("<Qq8xq16xIIH6x")
SLOW_EVENT = struct.Struct("<Qq8xq8x8xIIHHBBH")
assert MESSAGE_HEAD.size == COMMAND.itemsize and SLOW_EVENT.size == EVENT.itemsize
_CONSUMED, _WRITTEN, _STATUS, _N_DEALS = (
    word_of(kernel.CONTROL, n) for n in ("consumed", "written", "status", "n_deals")
)
_SESSION, _LAST_REQUEST = SESSION.itemsize // 4, 0  # in 4-byte words
assert SESSION.fields is not None and SESSION.fields["last_request"][1] == _LAST_REQUEST
ENGINE_ABI = 1  # changes whenever the same journal would give other events: stands in every journal segment


class Output(NamedTuple):
    """What a batch led to. ``payloads``: the NOTICE events' MessagePack bytes, in order, without separators."""

    events: np.ndarray
    payloads: bytes

    def notices(self) -> list[tuple[np.void, Any]]:
        """Every NOTICE event with its decoded message."""
        found, at = [], 0
        for event in self.events[self.events["kind"] == NOTICE]:
            end = at + int(event["quantity"])
            found.append((event, messages.decode_notice(self.payloads[at:end])))
            at = end
        return found


class Level(NamedTuple):
    """One price level of the published depth (R8.6)."""

    price: int
    quantity: int
    orders: int


class Depth(NamedTuple):
    """Best levels of both sides, best first."""

    bids: list[Level]
    asks: list[Level]


class SingleCommand:
    """The shortest way for one hot-lane command through Python: a call costs a fraction of a microsecond.

    Fill ``record`` (a view of one COMMAND: seq, time_ns, account … as the sequencer would) or ``buffer``, the same as
    bytes; then call ``apply()``, which applies the record and returns the number n of events: they are ``events[:n]``.
    Not for MESSAGE records; ``apply`` of the exchange is for everything.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._commands = np.zeros(1, COMMAND)
        self.record = self._commands[0]
        self.buffer = self._commands.view("u1").data
        self.events = exchange._events
        self._call = np.zeros(1, CALL)
        control_at, command_at = exchange._control_at, self._commands.ctypes.data
        written_at = control_at + _WRITTEN * WORD_BYTES
        self._call[0] = (entry_address(kernel.run), control_at, command_at, written_at, 0)
        self.apply = single_call(self._call, self._go_on)

    def _go_on(self) -> int:
        """The output or the table of deals was full, now or in the call before.

        Now: the exchange goes on where the command stands, in CONTROL. Before: ``events`` is its buffer again.
        """
        exchange, figures = self._exchange, self._exchange._figures
        self.events, self._call[0]["kept"] = exchange._events, 0
        if figures[_STATUS] == kernel.DONE:
            return figures[_WRITTEN]
        first = exchange._events[: figures[_WRITTEN]].copy()
        self.events = np.concatenate([first, exchange.apply(self._commands).events])
        self._call[0]["kept"] = 1
        return len(self.events)


class Exchange:
    """A market with its rules. All methods raise only for programmer errors; refusals are events."""

    def __init__(
        self,
        rules: Rules,
        capacity: Capacity | None = None,
        calendar: TradingCalendar | None = None,
        event_capacity: int = EVENT_CAPACITY,
    ) -> None:
        self.rules = rules
        self.calendar = calendar
        self.market = Market(rules, capacity)
        self.desk = Desk(self.market)
        self.auctions = Auctions(self.market, calendar)
        self.administration = Administration(self)
        self._machines: dict[type, StateMachine] = {
            **dict.fromkeys(messages.MARKET_COMMANDS, self.administration),
            **dict.fromkeys(BULK_COMMANDS, self.desk),
            **dict.fromkeys(AUCTION_COMMANDS, self.auctions),
        }
        self._events = aligned_zeros(max(event_capacity, kernel.ROOM), EVENT)
        self._control = self.market.control_room[: kernel.CONTROL.itemsize].view(kernel.CONTROL)
        self._control_at = self._control.ctypes.data
        self._figures = words(self._control)
        self._last_request = self.market.sessions.view(np.uint32).data
        self._chunks: list[bytes] = []
        self._payloads: list[bytes] = []
        self._one = np.zeros(1, COMMAND)
        self._snapshot_room: np.ndarray | None = None
        self._bind()

    def _bind(self) -> None:
        """Writes the tables' addresses and sizes into the control record; after any table has moved."""
        m, k = self.market, self._control[0]
        tables = {
            "market": m.market,
            "accounts": m.accounts,
            "holdings": m.holdings,
            "instruments": m.instruments,
            "sessions": m.sessions,
            "deals": m.deals,
            "orders": m.book.orders,
            "cold": m.cold,
            "pool": m.book.pool,
            "sides": m.book.sides,
            "levels": m.book.levels,
            "bitmap": m.book.bitmap,
            "events": self._events,
        }
        for name, table in tables.items():
            assert table.flags["C_CONTIGUOUS"], name
            k[f"{name}_at"] = table.ctypes.data
        k["n_accounts"], k["n_instruments"], k["n_sessions"] = len(m.accounts), len(m.instruments), len(m.sessions)
        k["n_orders"], k["n_levels"], k["n_words"] = len(m.book.orders), len(m.book.levels), len(m.book.bitmap)
        k["n_deals"], k["event_capacity"] = len(m.deals), len(self._events)

    # --- the one path -----------------------------------------------------------------------------------------

    def apply(self, commands: np.ndarray, payloads: bytes | memoryview = b"") -> Output:
        """Carries out sequenced commands.

        commands: COMMAND, shape (n,), C-contiguous; seq, time_ns, account, session filled by the sequencer.
        payloads: what the MESSAGE records of the batch carry, in order.
        The events are a view that the next call overwrites: copy what you keep.
        """
        assert commands.dtype == COMMAND and commands.ndim == 1, "commands must be one row of COMMAND records"
        assert commands.flags["C_CONTIGUOUS"], "commands must be contiguous"
        figures, base, done, n = self._figures, commands.ctypes.data, 0, len(commands)
        self._chunks, self._payloads, taken = [], [], 0
        records: memoryview | None = None
        while True:
            status = kernel.run(self._control_at, base + done * COMMAND.itemsize, n - done)
            done += figures[_CONSUMED]
            written = figures[_WRITTEN]
            if status == kernel.DONE and not self._chunks:
                return Output(self._events[:written], b"")
            if written:
                self._chunks.append(self._events[:written].tobytes())
            if status == kernel.DONE:
                break
            if status == kernel.DEALS_FULL:
                self.market.grow_deals()
                self._bind()
            elif status == kernel.AT_MESSAGE:
                records = octets(commands) if records is None else records
                head = MESSAGE_HEAD.unpack_from(records, done * COMMAND.itemsize)
                end = taken + head[2]
                self._message(head, payloads[taken:end])
                taken = end
                done += 1
        assert taken == len(payloads), "payloads do not fit the MESSAGE records"
        return Output(np.frombuffer(bytearray().join(self._chunks), EVENT), b"".join(self._payloads))

    def hot_lane(self) -> tuple[np.ndarray, np.ndarray]:
        """Control record (CONTROL, (1,)) and events buffer (EVENT), for machine code that calls ``kernel.run`` itself.

        The caller goes on after OUTPUT_FULL and must not send MESSAGE commands; with accounts on it also grows the
        table of deals, so such callers use :meth:`apply` for what the kernel hands back.
        """
        return self._control, self._events

    def _message(self, head: tuple[int, ...], payload: bytes | memoryview) -> None:
        """One slow-lane command: duplicate check, decoding, its state machine, its notices."""
        seq, time_ns, _, request_no, account, session = head
        self.market.stamp(seq, time_ns)
        envelope = Envelope(seq, time_ns, session, account, request_no)
        if session and request_no and session < len(self.market.sessions):
            at = session * _SESSION + _LAST_REQUEST
            if request_no <= self._last_request[at]:
                self._reject(envelope, Code.DUPLICATE_REQUEST)
                return
            self._last_request[at] = request_no
        tag = ""
        try:
            message = messages.decode(payload)
        except msgspec.DecodeError as error:  # ValidationError is one of them
            answer: list[Notice] | Refusal = Refusal(Code.MALFORMED, "", str(error)[:200])
        except UnicodeDecodeError:
            answer = Refusal(Code.MALFORMED, "", "a text is not UTF-8")
        else:
            answer = self._machines[type(message)].handle(envelope, message)
            if isinstance(answer, Refusal):
                tag = message.__struct_config__.tag
        if isinstance(answer, Refusal):
            text = answer.text or TEXT_EN[answer.code]
            refused = messages.Refused(command=tag, code=int(answer.code), field=answer.field, text=text)
            answer = [Notice(refused, envelope.account, envelope.session, int(answer.code))]
        if len(self.market.deals) != self._figures[_N_DEALS]:  # bulk or auction deals have made the table grow
            self._bind()
        self.publish(envelope, answer)

    def publish(self, envelope: Envelope, notices: list[Notice]) -> None:
        """Writes notices as events of the command in ``envelope``."""
        packed, payloads, pack = self._chunks, self._payloads, SLOW_EVENT.pack
        seq, time_ns, session, _, request_no = envelope
        told: Any = None
        payload = b""
        for message, account, to, reason, public, instrument in notices:
            if message is not told:  # one message often goes to several accounts in turn
                told, payload = message, messages.encode(message)
            ref = request_no if to and to == session else 0
            packed.append(pack(seq, time_ns, len(payload), account, ref, to, instrument, NOTICE, public, reason))
            payloads.append(payload)

    def _reject(self, envelope: Envelope, code: Code) -> None:
        seq, time_ns, session, account, request_no = envelope
        self._chunks.append(SLOW_EVENT.pack(seq, time_ns, 0, account, request_no, session, 0, REJECTED, 0, code))

    def cancel_orders(
        self, envelope: Envelope, reason: int, account: int = -1, session: int = -1, instrument: int = ANY_INSTRUMENT
    ) -> int:
        """Cancels open listed orders for a slow-lane command, in rising slot order. Returns how many."""
        self._one[0]["seq"], self._one[0]["time_ns"] = envelope.seq, envelope.time_ns
        k = self._control[0]
        k["cursor"], k["count"] = 1, 0
        while True:
            status = kernel.sweep(self._control_at, self._one.ctypes.data, account, session, instrument, reason)
            if k["written"]:
                self._chunks.append(self._events[: int(k["written"])].tobytes())
            if status == kernel.DONE:
                return int(k["count"])

    # --- embedding -----------------------------------------------------------------------------------------------

    @property
    def seq(self) -> int:
        """Sequence number of the last command."""
        return int(self.market.market[0]["seq"])

    @property
    def time_ns(self) -> int:
        """Exchange time: that of the last command, or where :meth:`advance` put it."""
        return int(self.market.market[0]["time_ns"])

    def advance(self, time_ns: int) -> None:
        """Steps the clock for the commands to come. It never runs backwards (D2)."""
        assert isinstance(time_ns, int | np.integer), f"time_ns must be whole nanoseconds, is {time_ns!r}"
        assert time_ns >= self.time_ns, "time runs forward"
        self.market.market[0]["time_ns"] = time_ns

    def submit(self, commands: np.ndarray) -> np.ndarray:
        """Numbers and times a batch of COMMAND records at the present time, in place, and applies it. EVENT view."""
        right = isinstance(commands, np.ndarray) and commands.dtype == COMMAND
        assert right, f"commands must be an array of COMMAND records, is {getattr(commands, 'dtype', type(commands))}"
        first = self.seq + 1
        commands["seq"] = np.arange(first, first + len(commands), dtype=np.uint64)
        commands["time_ns"] = self.time_ns
        return self.apply(commands).events

    def execute(self, message: Any, account: int = NO_ACCOUNT, session: int = 0, request_no: int = 0) -> Output:
        """Applies one slow-lane message at the present time, as the exchange itself or for an account."""
        payload = messages.encode(message)
        record = np.zeros(1, COMMAND)
        record["seq"], record["time_ns"], record["kind"] = self.seq + 1, self.time_ns, MESSAGE
        record["account"], record["session"], record["request_no"] = account, session, request_no
        record["quantity"] = len(payload)
        return self.apply(record, payload)

    # --- looking in ------------------------------------------------------------------------------------------------

    def depth(self, code: str, levels: int = 5) -> Depth:
        """The best levels of an instrument (R8.6). KeyError for an unknown code."""
        index = self.market.codes[code]
        return Depth(self._side_depth(index, BUY, levels), self._side_depth(index, SELL, levels))

    def _side_depth(self, instrument: int, side: int, count: int) -> list[Level]:
        book, row, s = self.market.book, self.market.instruments[instrument], 2 * instrument + side
        record = book.sides[s]
        levels = np.zeros(min(count, int(record["orders"])), np.uint64)
        n = kernel.best_levels(self._control_at, s, levels.ctypes.data, len(levels))
        found: list[Level] = []
        for level in levels[:n].tolist():
            here = book.levels[int(record["levels_offset"]) + level]
            tick = level if side == SELL else int(record["n_levels"]) - 1 - level
            price = int(row["band_base"]) + tick * int(row["tick"])
            found.append(Level(price, int(here["quantity"]), int(here["count"])))
        return found

    def open_orders(self, account: int | None = None) -> np.ndarray:
        """Open listed orders (of an account) in slot order: state.OPEN_ORDER records."""
        return state.open_orders(self.market, account)

    def state_hash(self) -> int:
        """64-bit hash of the whole state (xxh3), for comparing often."""
        digest = xxhash.xxh3_64()
        for part in state.parts(self):
            digest.update(part)
        return digest.intdigest()

    def seal_hash(self) -> bytes:
        """32-byte cryptographic hash of the same bytes (blake2b), for seals."""
        digest = hashlib.blake2b(digest_size=32)
        for part in state.parts(self):
            digest.update(part)
        return digest.digest()

    def snapshot(self) -> bytes:
        """The whole state as bytes; :meth:`restore` puts it back."""
        return state.dump(self)

    def snapshot_view(self) -> np.ndarray:
        """The same bytes, uint8[n], for a large market that must not wait: copied once, into memory that is kept.

        The next call overwrites them; until then another thread may hash and write them while the market goes on.
        """
        found, self._snapshot_room = state.copy_into(self, self._snapshot_room)
        return found

    def keep_snapshots_in(self, room: np.ndarray) -> None:
        """Memory for :meth:`snapshot_view`, uint8[n], best with its pages present: a first touch is slow."""
        self._snapshot_room = room

    @classmethod
    def restore(
        cls,
        rules: Rules,
        data: bytes | memoryview,
        capacity: Capacity | None = None,
        calendar: TradingCalendar | None = None,
    ) -> Exchange:
        """An exchange in the state of a snapshot. ValueError when the snapshot does not fit rules or capacity."""
        exchange = cls(rules, capacity, calendar)
        state.load(exchange, data)
        exchange._bind()
        return exchange

    def check(self) -> None:
        """Asserts every invariant: book, accounts, desk, auctions, and that locks have exactly one owner."""
        self.market.check()
        self.desk.check()
        self.auctions.check()
        state.check_locks(self)
