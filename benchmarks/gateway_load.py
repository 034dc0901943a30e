"""Machine-code load for the gateway benchmarks: an echo server, and clients that keep a window of messages open."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import carray, int32, njit, types, uint64
from numba.extending import intrinsic

from gateway.libzmq import call4

DONTWAIT = 1
SNDMORE = 2
RECORD = 64
HEADER = 32
CLOCK_MONOTONIC = 1
PAUSE_US = 100
LOOK_PAUSE_US = 5_000  # between two such looks; thousands of orders are open meanwhile
LOOK_ORDERS = 4  # answers per socket in one look at several: with fewer, looking costs more than what is found


@intrinsic
def _pointer(typing_context, address):
    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@njit(cache=True, inline="always")
def _octets(address, size):
    return carray(_pointer(address), (size,), np.uint8)


@njit(cache=True, inline="always")
def _words(address, count):
    return carray(_pointer(address), (count,), np.int64)


@njit(cache=True)
def now_ns(f_clock, spare):
    """CLOCK_MONOTONIC through the C library; spare: int64[2]."""
    call4(f_clock, CLOCK_MONOTONIC, spare.ctypes.data, 0, 0)
    return spare[0] * 1_000_000_000 + spare[1]


@njit(cache=True, nogil=True)
def look(f_clock, spare, began_ns, step_ns, late):
    """Looks at the clock all the time: how long after each of the moments began_ns + i * step_ns it was seen, ns."""
    i = 0
    while i < late.size:
        time_ns = now_ns(f_clock, spare)
        while i < late.size and began_ns + i * step_ns <= time_ns:
            late[i] = time_ns - (began_ns + i * step_ns)
            i += 1


@njit(cache=True)
def echo(socket, f_recv, f_data, f_size, f_send, messages_at, limit):
    """Sends back what waits on a ROUTER, each message as it came; how many, or -1 where one could not be sent."""
    first, second = messages_at, messages_at + 64
    n = 0
    while n < limit:
        if int32(call4(f_recv, first, socket, DONTWAIT, 0)) < 0:
            return n
        if int32(call4(f_recv, second, socket, DONTWAIT, 0)) < 0:
            return n
        route_at, route = call4(f_data, first, 0, 0, 0), call4(f_size, first, 0, 0, 0)
        data_at, size = call4(f_data, second, 0, 0, 0), call4(f_size, second, 0, 0, 0)
        if int32(call4(f_send, socket, route_at, route, SNDMORE | DONTWAIT)) < 0:
            return -1
        if int32(call4(f_send, socket, data_at, size, DONTWAIT)) < 0:
            return -1
        n += 1
    return n


@njit(cache=True)
def answers(data_at, size):
    """Orders that a frame answers: ACCEPTED and REJECTED events of a report frame; other frames answer none."""
    octets = _octets(data_at, size)
    if size < HEADER or octets[0] != 1:
        return 0
    count = np.int64(octets[2]) | (np.int64(octets[3]) << 8)
    n = 0
    for i in range(count):
        kind = octets[HEADER + RECORD * i + 60]
        if kind == 1 or kind == 2:
            n += 1
    return n


@njit(cache=True)
def run(
    sockets, f_recv, f_data, f_size, f_send, f_poll, poll_at, messages_at, records_at, per_frame, total, window, tokens,
    next_requests, is_echo, f_clock, f_usleep, spare, rate_ns, latencies, slice_end_ns, progress
):  # fmt: skip
    """Keeps up to ``window`` orders open on the sockets in turn until ``total`` are answered or the slice is over.

    rate_ns > 0: open loop, one frame every so many ns, latency from the intended time (of the frame's last answer).
    What is due is sent every PAUSE_US, and the wait counts: a loop that never slept would take a core from the others.
    For the same reason it pauses between two looks at many sockets on which little has come.
    progress: int64[6]: sent, answered, first send time, turn, events, intended start.
    """
    n_sockets = sockets.size
    frame_bytes = per_frame * RECORD
    while progress[1] < total:
        time_ns = now_ns(f_clock, spare)
        if time_ns > slice_end_ns:
            return 0
        moved, before = False, progress[1]
        while progress[0] < total and progress[0] - progress[1] + per_frame <= window:
            if rate_ns > 0 and progress[5] + (progress[0] // per_frame) * rate_ns > time_ns:
                break
            turn = progress[3]
            frame_at = records_at + turn * frame_bytes
            words = _words(frame_at, 8 * per_frame)
            for i in range(per_frame):
                words[8 * i + 5] = tokens[turn]
                # request_no in the low half of word 6, account (0) in the high half
                words[8 * i + 6] = next_requests[turn] + i
            if int32(call4(f_send, sockets[turn], frame_at, frame_bytes, DONTWAIT)) < 0:
                break
            next_requests[turn] += per_frame
            progress[0] += per_frame
            progress[3] = (turn + 1) % n_sockets
            moved = True
        for s in range(n_sockets):
            for _ in range(4_096):
                if int32(call4(f_recv, messages_at, sockets[s], DONTWAIT, 0)) < 0:
                    break
                moved = True
                size = call4(f_size, messages_at, 0, 0, 0)
                data_at = call4(f_data, messages_at, 0, 0, 0)
                got = size // RECORD if is_echo else answers(data_at, size)
                if not is_echo and size >= HEADER and _octets(data_at, 1)[0] == 1:
                    progress[4] += (size - HEADER) // RECORD
                if got and latencies.size:
                    done_ns = now_ns(f_clock, spare)
                    for k in range(got):
                        index = progress[1] + k
                        if index < latencies.size:
                            latencies[index] = done_ns - (progress[5] + (index // per_frame) * rate_ns)
                progress[1] += got
        few = n_sockets > 1 and moved and progress[1] - before < LOOK_ORDERS * n_sockets
        if few:
            call4(f_usleep, LOOK_PAUSE_US, 0, 0, 0)
        elif not moved and rate_ns > 0:
            call4(f_usleep, PAUSE_US, 0, 0, 0)
        elif not moved:
            call4(f_poll, poll_at, n_sockets, 1, 0)
    return 1


assert uint64 is not None


@njit(cache=True)
def ping(socket, f_recv, f_data, f_size, f_send, f_poll, poll_at, message_at, record_at, token, first_no, is_echo,
         f_clock, spare, out):  # fmt: skip
    """One order at a time: round trips, ns, into ``out``; the frame that answers it is the first with an answer."""
    words = _words(record_at, 8)
    for i in range(out.size):
        words[5] = token
        words[6] = first_no + i
        began = now_ns(f_clock, spare)
        if int32(call4(f_send, socket, record_at, RECORD, 0)) < 0:
            return i
        got = np.int64(0)
        while got == 0:
            if int32(call4(f_recv, message_at, socket, DONTWAIT, 0)) < 0:
                if now_ns(f_clock, spare) - began > 5_000_000_000:
                    return i
                call4(f_poll, poll_at, 1, 1, 0)
                continue
            size = call4(f_size, message_at, 0, 0, 0)
            got = size // RECORD if is_echo else answers(call4(f_data, message_at, 0, 0, 0), size)
        out[i] = now_ns(f_clock, spare) - began
    return out.size
