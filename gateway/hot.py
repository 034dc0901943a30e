"""The hot lane's machine code: drain a socket into the batch, index the reports, send them.

The interpreter is entered once a batch, not once a message. What one message may not do here (a login, a
slow-lane command, anything refused) is handed to Python with its bytes, so that there is one place for each
decision: this file only takes what is plainly right.

Shared tables: HOT (one row per session number: :data:`HOT`), the batch's records, the report store's events,
streams and blocks. Python owns them and calls these functions under its lock; nothing here keeps an address.
"""

# mypy: ignore-errors
from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, int32, njit, types, uint8, uint64
from numba.extending import intrinsic

from engine.machine_code import native
from engine.records import CANCEL, COMMAND, EVENT, MASS_CANCEL, MESSAGE, NOTICE, RECORD_BYTES, REDUCE, REJECTED
from gateway.libzmq import call4

KEY_WORDS: Final = ("key_0", "key_1", "key_2", "key_3", "key_4")  # 40 characters of Z85

HOT: Final = np.dtype(
    [
        ("token", "<u8"),
        ("route_low", "<u8"),  # the 16 bytes of the routing id
        ("route_high", "<u8"),
        *((name, "<u8") for name in KEY_WORDS),  # the public key, as libzmq attaches it to each message
        ("cursor", "<u8"),  # number of the next report to send
        ("last_heard_ns", "<i8"),
        ("last_sent_ns", "<i8"),
        ("order_fill", "<i8"),  # token buckets, in 1e-9 units
        ("order_time_ns", "<i8"),
        ("cancel_fill", "<i8"),
        ("cancel_time_ns", "<i8"),
        ("per_second", "<i8"),
        ("burst", "<i8"),
        ("cancels_factor", "<i8"),
        ("heartbeat_ns", "<i8"),  # 0 where nobody is logged in, or is lost
        ("ping_ns", "<i8"),  # monotonic time of the last heartbeat to it
        ("ping_time_ns", "<i8"),  # the exchange time that it bears, 0 once it came back
        ("round_trip_ns", "<i8"),  # until the client gave it back; 0: not known
        ("next_request", "<u4"),
        ("account", "<u4"),
        ("kinds", "<u4"),  # allowed command kinds, as bits
        ("takes", "u1"),  # records are taken: logged in, not lost
        ("sends", "u1"),  # reports go out as they arise: active, not behind
        ("members", "u1"),  # on the members' plane
        ("timed", "u1"),  # a disconnect, a dead-man switch or a slow socket has a deadline
    ]
)

STREAM: Final = np.dtype([("first_no", "<u8"), ("next_no", "<u8"), ("tail", "<u4"), ("fill", "<u4")])
"""A session's reports of the day: numbers first_no … next_no - 1; ``tail`` is its last block, ``fill`` its use."""

HEARTBEATS_LOST: Final = 3  # D9; gateway.protocol has the same
BLOCK: Final = 256  # reports in a block of a stream's index

ROUTE_BYTES: Final = 16
HEADER_BYTES: Final = 32
DONTWAIT: Final = 1
SNDMORE: Final = 2

# What drain() came back for.
EMPTY: Final = 0  # nothing waits
FULL: Final = 1  # the batch is full
SLOW: Final = 2  # a message for Python lies in the hand-over buffer
CAPPED: Final = 3  # as many messages as asked for were taken

# Fields of the state that drain() gives back.
STATE_COUNT: Final = 0  # records in the batch
STATE_MESSAGES: Final = 1  # messages taken
STATE_ROUTE: Final = 2  # bytes of the routing id in the hand-over buffer
STATE_SIZE: Final = 3  # bytes of the frame behind it
STATE_PARTS: Final = 4
STATE_READY: Final = 5  # after wait(): sockets that have something, as bits in the order of the poll items
STATE_NOW: Final = 6  # after wait(): its last look at the clock, monotonic ns
STATE_FIELDS: Final = 8

POLL_ITEM: Final = np.dtype([("socket", "<u8"), ("fd", "<i4"), ("events", "<i2"), ("revents", "<i2")])
"""zmq_pollitem_t."""

CLOCK_MONOTONIC: Final = 1
NS_PER_MS: Final = 1_000_000

# A heartbeat as MessagePack writes it (gateway.protocol.Heartbeat): a map of at most four pairs, short texts, numbers
# without a sign. Whatever is written in another way is Python's to read.
_MAP_4: Final = 0x84
_KEY_T: Final = np.frombuffer(b"\xa1t", np.uint8)
_TAG: Final = np.frombuffer(b"\xa9heartbeat", np.uint8)
_KEY_TOKEN: Final = np.frombuffer(b"\xa5token", np.uint8)
_KEY_LAST_REPORT: Final = np.frombuffer(b"\xablast_report", np.uint8)
_KEY_TIME_NS: Final = np.frombuffer(b"\xa7time_ns", np.uint8)
HEARTBEAT_BYTES_MAX: Final = 1 + 2 + 10 + 6 + 9 + 12 + 9 + 8 + 9  # all four, each number in nine bytes
_NUMBER_MAX: Final = 1 << 62  # of last_report, as in gateway.protocol
_INT_MAX: Final = (1 << 63) - 1

FILL_UNIT: Final = 1_000_000_000
REFILL_NS_MAX: Final = 10_000_000_000  # longer idleness adds nothing, and no product leaves 64 bits
_RISK_DOWN_MASK: Final = (1 << CANCEL) | (1 << REDUCE) | (1 << MASS_CANCEL)


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """An integer address as a void pointer, for carray."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@njit(inline="always")
def _bytes_at(address, size):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (size,), np.uint8)


@njit(inline="always")
def _words_at(address, count):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (count,), np.uint64)


@njit(inline="always")
def _ints_at(address, count):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (count,), np.uint32)


@native()
def _take(row, source, count, buffer_at, filled, session, now_ns):  # type: ignore[no-untyped-def]
    """Checks a frame's records and copies them into the batch; 0 where Python must look at them, nothing changed."""
    words = _words_at(source, 8 * count)
    ints = _ints_at(source, 16 * count)
    octets = _bytes_at(source, RECORD_BYTES * count)
    expected = row.next_request
    kinds = np.uint32(0)
    for i in range(count):
        w, d, b = 8 * i, 16 * i, 64 * i
        owner = ints[d + 14]  # session in the low half, instrument in the high one
        low = owner & np.uint32(0xFFFF)
        kind = octets[b + 60]
        if (
            (words[w] | words[w + 1]) != 0
            or words[w + 5] != row.token
            or ints[d + 12] != expected
            or ints[d + 13] != 0
            or (low != 0 and low != session)
            or kind == MESSAGE
            or kind > 31
            or ((row.kinds >> np.uint32(kind)) & np.uint32(1)) == 0
        ):
            return 0
        kinds |= np.uint32(1) << np.uint32(kind)
        expected += np.uint32(1)
    cost = count * FILL_UNIT
    if kinds & ~np.uint32(_RISK_DOWN_MASK) == 0:  # new business behind a cancel in one frame is new business
        per_second, burst = row.per_second * row.cancels_factor, row.burst * row.cancels_factor
        fill = min(row.cancel_fill + min(now_ns - row.cancel_time_ns, REFILL_NS_MAX) * per_second, burst * FILL_UNIT)
        if fill < cost:
            return 0
        row.cancel_fill, row.cancel_time_ns = fill - cost, now_ns
    else:
        fill = min(
            row.order_fill + min(now_ns - row.order_time_ns, REFILL_NS_MAX) * row.per_second, row.burst * FILL_UNIT
        )
        if fill < cost:
            return 0
        row.order_fill, row.order_time_ns = fill - cost, now_ns
    out = _words_at(buffer_at + filled * RECORD_BYTES, 8 * count)
    for i in range(8 * count):
        out[i] = words[i]
    out_ints = _ints_at(buffer_at + filled * RECORD_BYTES, 16 * count)
    for i in range(count):
        out[8 * i + 5] = np.uint64(0)
        out_ints[16 * i + 13] = row.account
        out_ints[16 * i + 14] = (out_ints[16 * i + 14] & np.uint32(0xFFFF0000)) | np.uint32(session)
    row.next_request = expected
    row.last_heard_ns = now_ns
    return 1


@njit(inline="always")
def _is_key(row, text_at):  # type: ignore[no-untyped-def]
    """True where the 40 characters at an address (0: none) are the session's key."""
    if text_at == 0:
        return False
    key = _words_at(text_at, 5)
    return (
        row.key_0 == key[0]
        and row.key_1 == key[1]
        and row.key_2 == key[2]
        and row.key_3 == key[3]
        and row.key_4 == key[4]
        and _bytes_at(text_at, 41)[40] == 0
    )


@njit(inline="always")
def _stands(octets, at, size, text):  # type: ignore[no-untyped-def]
    """True where ``text`` stands at this place of a frame."""
    same = at + text.size <= size
    i = 0
    while same and i < text.size:
        same = octets[at + i] == text[i]
        i += 1
    return same


@native()
def _number(octets, at, size):  # type: ignore[no-untyped-def]
    """(value, the place behind it) of a MessagePack number without a sign; place 0 where there is none."""
    if at >= size:
        return uint64(0), 0
    first = np.int64(octets[at])
    if first < 0x80:
        return uint64(first), at + 1
    if first < 0xCC or first > 0xCF:
        return uint64(0), 0
    end = at + 1 + (1 << (first - 0xCC))
    if end > size:
        return uint64(0), 0
    value = uint64(0)
    for i in range(at + 1, end):
        value = (value << uint64(8)) | uint64(octets[i])
    return value, end


@native()
def read_heartbeat(data_at, size):  # type: ignore[no-untyped-def]
    """(1, token, time_ns) of a frame that is a heartbeat and nothing else, its pairs in any order; else (0, 0, 0)."""
    none = (0, uint64(0), np.int64(0))
    if size == 0 or size > HEARTBEAT_BYTES_MAX:
        return none
    octets = _bytes_at(data_at, size)
    pairs = np.int64(octets[0]) - 0x80
    if pairs < 2 or pairs > _MAP_4 - 0x80:
        return none
    token = time_ns = uint64(0)
    at, seen = np.int64(1), 0
    for _ in range(pairs):
        if _stands(octets, at, size, _KEY_T):
            bit = 1
            at += _KEY_T.size
            if not _stands(octets, at, size, _TAG):
                return none
            at += _TAG.size
        elif _stands(octets, at, size, _KEY_TOKEN):
            bit = 2
            token, at = _number(octets, at + _KEY_TOKEN.size, size)
        elif _stands(octets, at, size, _KEY_LAST_REPORT):
            bit = 4
            last, at = _number(octets, at + _KEY_LAST_REPORT.size, size)
            if last > uint64(_NUMBER_MAX):
                return none
        elif _stands(octets, at, size, _KEY_TIME_NS):
            bit = 8
            time_ns, at = _number(octets, at + _KEY_TIME_NS.size, size)
            if time_ns > uint64(_INT_MAX):
                return none
        else:
            return none
        if at == 0 or seen & bit:
            return none
        seen |= bit
    if at != size or seen & 3 != 3:
        return none
    return 1, token, np.int64(time_ns)


@native()
def _hear(row, time_ns, now_ns):  # type: ignore[no-untyped-def]
    """A session's heartbeat; ``time_ns``: the time of ours that it gives back, 0 without one."""
    row.last_heard_ns = now_ns
    if time_ns != 0 and time_ns == row.ping_time_ns:
        row.round_trip_ns = max(1, now_ns - row.ping_ns)
        row.ping_time_ns = 0


@native()
def drain(  # type: ignore[no-untyped-def]
    socket,
    f_recv,
    f_data,
    f_size,
    f_more,
    f_gets,
    user_id_at,
    messages_at,
    hot,
    buffer_at,
    capacity,
    limit,
    now_ns,
    over,
    state,
):
    """Takes messages of a ROUTER until none waits, the batch is full, or one is Python's.

    Records that are plainly right go into the batch, heartbeats that are plainly right into their session's row.
    messages_at: two initialised zmq_msg_t. hot: HOT[65,536]. buffer_at: the batch's records, ``capacity`` of them,
    ``state[STATE_COUNT]`` filled. over: uint8, room for a routing id and a frame. user_id_at: the property's name,
    0 where connections have no keys. Returns EMPTY, FULL, SLOW, CAPPED.
    """
    first, second = messages_at, messages_at + 64
    taken = 0
    while taken < limit:
        if state[STATE_COUNT] + 1_024 > capacity:
            return FULL
        if int32(call4(f_recv, first, socket, DONTWAIT, 0)) < 0:
            return EMPTY
        taken += 1
        state[STATE_MESSAGES] += 1
        parts = 0
        if int32(call4(f_more, first, 0, 0, 0)) == 0:
            continue  # a routing id without a frame: not ours to answer
        if int32(call4(f_recv, second, socket, DONTWAIT, 0)) < 0:
            return EMPTY
        parts = 1
        route_size = call4(f_size, first, 0, 0, 0)
        route_at = call4(f_data, first, 0, 0, 0)
        size = call4(f_size, second, 0, 0, 0)
        data_at = call4(f_data, second, 0, 0, 0)
        more = int32(call4(f_more, second, 0, 0, 0)) != 0
        beat, token, time_ns = 0, uint64(0), np.int64(0)
        if not more and route_size == ROUTE_BYTES:
            beat, token, time_ns = read_heartbeat(data_at, size)
        if beat:
            row = hot[np.int64(token & uint64(0xFFFF))]
            route = _words_at(route_at, 2)
            if (
                row.takes != 0
                and row.members != 0
                and row.token == token
                and row.route_low == route[0]
                and row.route_high == route[1]
                and (user_id_at == 0 or _is_key(row, call4(f_gets, second, user_id_at, 0, 0)))
            ):
                _hear(row, time_ns, now_ns)
                continue
        elif not more and size >= RECORD_BYTES and size % RECORD_BYTES == 0 and route_size == ROUTE_BYTES:
            token = _words_at(data_at, 8)[5]
            session = np.int64(token & uint64(0xFFFF))
            row = hot[session]
            route = _words_at(route_at, 2)
            if row.takes != 0 and row.token == token and row.route_low == route[0] and row.route_high == route[1]:
                count = size // RECORD_BYTES
                known = user_id_at == 0 or _is_key(row, call4(f_gets, second, user_id_at, 0, 0))
                if (
                    known
                    and count <= 1_024
                    and _take(row, data_at, count, buffer_at, state[STATE_COUNT], session, now_ns)
                ):
                    state[STATE_COUNT] += count
                    continue
        kept = min(size, over.size - route_size)
        source = _bytes_at(route_at, route_size)
        for i in range(route_size):
            over[i] = source[i]
        source = _bytes_at(data_at, kept)
        for i in range(kept):
            over[route_size + i] = source[i]
        while more:
            if int32(call4(f_recv, second, socket, DONTWAIT, 0)) < 0:
                break
            parts += 1
            more = int32(call4(f_more, second, 0, 0, 0)) != 0
        state[STATE_ROUTE], state[STATE_SIZE], state[STATE_PARTS] = route_size, kept, parts
        return SLOW
    return CAPPED


@native()
def _clock_ns(f_clock, clock):  # type: ignore[no-untyped-def]
    """Monotonic time; clock: int64[2], where the C library writes it."""
    call4(f_clock, CLOCK_MONOTONIC, clock.ctypes.data, 0, 0)
    return clock[0] * 1_000_000_000 + clock[1]


@native(nogil=True)
def wait(  # type: ignore[no-untyped-def]
    socket,
    f_recv,
    f_data,
    f_size,
    f_more,
    f_gets,
    user_id_at,
    messages_at,
    hot,
    buffer_at,
    capacity,
    limit,
    over,
    state,
    f_poll,
    items,
    f_clock,
    clock,
    until_ns,
):
    """Sleeps until there is work or the time is over, and begins the work: as ``drain``, whose results it gives.

    Thousands of sessions' heartbeats do not wake Python: they are taken here, and the sleep goes on. items:
    POLL_ITEM[n], the ROUTER's first; ``state[STATE_READY]`` says which have something. A signal ends the sleep too.
    """
    before = state[STATE_COUNT]
    state[STATE_READY] = 0
    state[STATE_NOW] = _clock_ns(f_clock, clock)
    while True:
        left_ms = max(np.int64(0), (until_ns - state[STATE_NOW] + NS_PER_MS - 1) // NS_PER_MS)
        some = int32(call4(f_poll, items.ctypes.data, items.size, left_ms, 0))
        state[STATE_NOW] = _clock_ns(f_clock, clock)
        if some <= 0:
            return EMPTY
        ready = np.int64(0)
        for i in range(items.size):
            if items[i].revents != 0:
                ready |= 1 << i
        why = EMPTY
        if ready & 1:
            why = drain(
                socket, f_recv, f_data, f_size, f_more, f_gets, user_id_at, messages_at, hot, buffer_at, capacity,
                limit, state[STATE_NOW], over, state,
            )  # fmt: skip
        if why != EMPTY or state[STATE_COUNT] != before or ready > 1:
            state[STATE_READY] = ready
            return why
        if state[STATE_NOW] >= until_ns:
            return EMPTY


@native()
def send_heartbeats(socket, f_send, hot, due, frame, time_ns, mono_ns):  # type: ignore[no-untyped-def]
    """Sends a heartbeat to each member's session of ``due`` for which nothing else is due.

    due: uint16, of due_sessions; frame: uint8, the heartbeat, which bears exchange time ``time_ns``. Returns how many
    sessions are left for Python; they stand at the beginning of ``due``.
    """
    left = 0
    for i in range(due.size):
        session = due[i]
        row = hot[session]
        silent = mono_ns - row.last_heard_ns > row.heartbeat_ns * HEARTBEATS_LOST
        if row.takes == 0 or row.members == 0 or row.timed != 0 or silent:
            due[left] = session
            left += 1
            continue
        row.last_sent_ns = row.ping_ns = mono_ns
        row.ping_time_ns = time_ns
        route_at = row_address(hot, session) + 8
        if int32(call4(f_send, socket, route_at, ROUTE_BYTES, SNDMORE | DONTWAIT)) >= 0:
            call4(f_send, socket, frame.ctypes.data, frame.size, DONTWAIT)
    return left


@native()
def due_sessions(hot, numbers, mono_ns):  # type: ignore[no-untyped-def]
    """Sessions for which time may have made something due: silent too long, a heartbeat to send, a deadline.

    numbers: uint16, those that exist. Four thousand of them cost some ten microseconds.
    """
    found = np.empty(numbers.size, np.uint16)
    n = 0
    for i in range(numbers.size):
        row = hot[numbers[i]]
        late = row.heartbeat_ns != 0 and (
            mono_ns - min(row.last_sent_ns, row.ping_ns) >= row.heartbeat_ns
            or mono_ns - row.last_heard_ns > row.heartbeat_ns * HEARTBEATS_LOST
        )
        if late or row.timed != 0:
            found[n] = numbers[i]
            n += 1
    return found[:n]


@native()
def unsent(hot, streams, numbers):  # type: ignore[no-untyped-def]
    """(reports that wait for sessions that are logged in, those of the slowest session)."""
    total = worst = np.int64(0)
    for i in range(numbers.size):
        row = hot[numbers[i]]
        if row.token != 0:
            waiting = max(np.int64(streams[numbers[i]].next_no), np.int64(1)) - np.int64(row.cursor)
            total += waiting
            worst = max(worst, waiting)
    return total, worst


@native()
def push(streams, blocks, previous, used, session, index):  # type: ignore[no-untyped-def]
    """Adds one event index to a session's stream; returns how many blocks are in use."""
    row = streams[session]
    if row.next_no == 0:
        row.first_no = row.next_no = 1
    if row.tail == 0 or row.fill == BLOCK:
        previous[used] = row.tail
        row.tail = used
        row.fill = 0
        used += 1
    blocks[row.tail, row.fill] = index
    row.fill += np.uint32(1)
    row.next_no += np.uint64(1)
    return used


@native()
def index_events(events, base, streams, blocks, previous, used, marks, touched):  # type: ignore[no-untyped-def]
    """Adds a batch's events (all of them for one session each) to their streams.

    marks: uint8[65,536], zero; touched: uint16, the sessions that grew. Returns (blocks in use, number touched).
    """
    n = at = 0
    while at < events.size:
        session = np.int64(events[at].session)
        end = at + 1
        while end < events.size and events[end].session == session:
            end += 1
        row = streams[session]  # a run of one session's events: its row is read and written once
        tail, fill = np.int64(row.tail), np.int64(row.fill)
        if row.next_no == 0:
            row.first_no = row.next_no = 1
        row.next_no += np.uint64(end - at)
        for i in range(at, end):
            if tail == 0 or fill == BLOCK:
                previous[used] = tail
                tail = used
                fill = 0
                used += 1
            blocks[tail, fill] = base + i
            fill += 1
        row.tail, row.fill = tail, fill
        if marks[session] == 0:
            marks[session] = 1
            touched[n] = session
            n += 1
        at = end
    for i in range(n):
        marks[touched[i]] = 0
    return used, n


@native()
def index_copied(  # type: ignore[no-untyped-def]
    events, base, streams, blocks, previous, used, marks, touched, starts, copies
):
    """As ``index_events``, and to the drop copies of each event's account: ``copies[starts[a] : starts[a + 1]]``."""
    n = 0
    for i in range(events.size):
        account = np.int64(events[i].account)
        first = last = np.int64(0)
        if account + 1 < starts.size:
            first, last = np.int64(starts[account]), np.int64(starts[account + 1])
        for at in range(first - 1, last):  # the event's own session, then the copies
            session = np.int64(events[i].session) if at < first else np.int64(copies[at])
            used = push(streams, blocks, previous, used, session, base + i)
            if marks[session] == 0:
                marks[session] = 1
                touched[n] = session
                n += 1
    for i in range(n):
        marks[touched[i]] = 0
    return used, n


@native()
def plain(events, copied, rejects):  # type: ignore[no-untyped-def]
    """True where every event belongs to one session and to no drop copy (copied: uint8 per account).

    The first pass over new events, so it also counts what the metrics tell: rejects, int64[256], refusals by code.
    """
    direct = True
    for i in range(events.size):
        e = events[i]
        if e.kind == REJECTED:
            rejects[e.reason & 0xFF] += 1
        if e.session == 0 or e.kind == NOTICE or (e.account < copied.size and copied[e.account] != 0):
            direct = False
    return direct


@native()
def collect(streams, blocks, previous, session, first_no, out):  # type: ignore[no-untyped-def]
    """Event indices of reports first_no … first_no + out.size - 1 of a session, from its last block backwards."""
    row = streams[session]
    block = np.int64(row.tail)
    end = np.int64(row.next_no)  # number behind the block's last report
    fill = np.int64(row.fill)
    first = np.int64(first_no)
    last = first + out.size
    while block != 0 and end > first:
        start = end - fill
        for no in range(max(first, start), min(last, end)):
            out[no - first] = blocks[block, no - start]
        end = start
        block = np.int64(previous[block])
        fill = BLOCK


@native()
def numbers_of(streams, blocks, previous, events, session, seq):  # type: ignore[no-untyped-def]
    """(first, last + 1) numbers of a command's reports in a stream; walks back from the end."""
    row = streams[session]
    block, no, fill = np.int64(row.tail), np.int64(row.next_no), np.int64(row.fill)
    first = last = np.int64(0)
    while block != 0:
        for i in range(fill - 1, -1, -1):
            no -= 1
            at = events[blocks[block, i]].seq
            if at == seq:
                if last == 0:
                    last = no + 1
                first = no
            elif at < seq:
                return first, last
        block = np.int64(previous[block])
        fill = BLOCK
    return first, last


@native()
def stamp(commands, first_seq, time_ns):  # type: ignore[no-untyped-def]
    """Numbers a group's commands (COMMAND[n]) from ``first_seq`` on and gives them their time."""
    for i in range(commands.size):
        commands[i].seq = first_seq + uint64(i)
        commands[i].time_ns = time_ns


@native()
def link_commands(commands, base, previous, last, kinds):  # type: ignore[no-untyped-def]
    """Chains a group's commands by session: previous[i] and last[session] hold index + 1 of the one before.

    It sees each command once, so it also counts them by kind for the metrics: kinds, int64[256].
    """
    kind, run = 0, 0  # runs of one kind are the rule: a cell that is written again at once would be waited for
    for i in range(commands.size):
        if commands[i].kind != kind:
            kinds[kind] += run
            kind, run = np.int64(commands[i].kind), 0
        run += 1
        session = np.int64(commands[i].session)
        if session != 0:
            previous[base + i] = last[session]
            last[session] = base + i + 1
    kinds[kind] += run


@native(nogil=True)
def link_filled(commands, previous, last):  # type: ignore[no-untyped-def]
    """``link_commands`` for the log's first commands, beside others that work on what follows; they are not counted."""
    kinds = np.zeros(256, np.int64)
    link_commands(commands, 0, previous, last, kinds)


@native()
def find_command(commands, previous, last, session, request_no):  # type: ignore[no-untyped-def]
    """Index of a session's request, -1 where it is not of today; walks back one request at a time."""
    at = np.int64(last[session])
    while at != 0:
        number = commands[at - 1].request_no
        if number == request_no:
            return at - 1
        if number < request_no:
            return -1
        at = np.int64(previous[at - 1])
    return -1


@native()
def deliver(  # type: ignore[no-untyped-def]
    socket, f_send, hot, streams, events, touched, counts, places, out, received_ns, sent_ns, mono_ns, per_frame, left
):
    """Sends a batch's reports to the sessions that are up to date; the others go into ``left``.

    events: EVENT[n] of the batch, each of one session; touched: the sessions, after index_events. counts: int64
    [65,536], zero; places: int64[n]; out: uint8, a frame's room. Returns how many sessions are left for Python.
    """
    n = events.size
    only = touched.size == 1  # of one session: they lie together already
    if only:
        counts[touched[0]] = n
    else:
        for i in range(n):
            counts[events[i].session] += 1
        start = 0
        for t in range(touched.size):  # counts becomes where each session's events begin
            session = touched[t]
            size = counts[session]
            counts[session] = start
            start += size
        for i in range(n):
            session = events[i].session
            places[counts[session]] = i
            counts[session] += 1
    head8 = out[:HEADER_BYTES].view(np.int64)
    source = events.view(np.int64)
    n_left = 0
    begin = 0
    for t in range(touched.size):
        session = touched[t]
        end = counts[session]
        size = end - begin
        row = hot[session]
        sendable = row.sends != 0 and row.members != 0 and row.cursor + uint64(size) == streams[session].next_no
        sent = begin
        while sendable and sent < end:
            m = min(end - sent, per_frame)
            flags = 2 if sent + m == end else 0  # CAUGHT_UP
            head8[0] = 1 | (flags << 8) | (m << 16)
            head8[1] = np.int64(row.cursor)
            head8[2] = received_ns
            head8[3] = sent_ns
            words = out[HEADER_BYTES : HEADER_BYTES + m * RECORD_BYTES].view(np.int64)
            if only:
                words[:] = source[8 * sent : 8 * (sent + m)]
            else:
                for k in range(m):
                    at = 8 * places[sent + k]
                    for w in range(8):
                        words[8 * k + w] = source[at + w]
            route_at = row_address(hot, session) + 8
            if int32(call4(f_send, socket, route_at, ROUTE_BYTES, SNDMORE | DONTWAIT)) < 0:
                break
            if int32(call4(f_send, socket, out.ctypes.data, HEADER_BYTES + m * RECORD_BYTES, DONTWAIT)) < 0:
                break
            row.cursor += uint64(m)
            row.last_sent_ns = mono_ns
            sent += m
        if not sendable or sent < end:
            left[n_left] = session
            n_left += 1
        begin = end
    for t in range(touched.size):
        counts[touched[t]] = 0
    return n_left


@njit(inline="always")
def row_address(hot, session):  # type: ignore[no-untyped-def]
    """Address of a session's row; its routing id lies at offset 8."""
    return hot.ctypes.data + np.int64(session) * hot.itemsize


assert HOT.fields is not None and HOT.fields["route_low"][1] == 8 and COMMAND.itemsize == EVENT.itemsize == 64
assert uint8 is not None
