"""What gives way to the exchange: a process with every thread, a thread by idle turns (gateway.giving_way)."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import threading

import pytest

from gateway.giving_way import LATE_S, NICE, SHARE_S, SLICE_NS, IdleTurns

# What a process and a thread that it starts afterwards are told of themselves (sched_getattr(2)): nice, slice in ns.
LOOK = """
import ctypes, json, os, struct, sys, threading
from gateway.giving_way import SCHED_ATTR, give_way

def look():
    attributes = ctypes.create_string_buffer(SCHED_ATTR.size)
    assert ctypes.CDLL(None).syscall(int(sys.argv[1]), 0, attributes, SCHED_ATTR.size, 0) == 0
    _, _, _, nice, _, slice_ns, *_ = SCHED_ATTR.unpack(attributes.raw)
    found.append([nice, slice_ns])

found = []
look()
give_way()
give_way()  # once more changes nothing
look()
thread = threading.Thread(target=look)
thread.start()
thread.join()
print(json.dumps(found))
"""
SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
WITH_SLICES = (6, 12)  # the first Linux that is asked for a slice


@pytest.mark.skipif(platform.machine() not in SCHED_GETATTR, reason="the system call's number is not known here")
def test_nice_and_short_turns_for_each_thread() -> None:
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if platform.system() != "Linux" or release < WITH_SLICES:
        pytest.skip(f"{platform.system()} {platform.release()} does not take a slice")
    words = [sys.executable, "-c", LOOK, str(SCHED_GETATTR[platform.machine()])]
    before, after, thread = json.loads(subprocess.run(words, check=True, capture_output=True, timeout=60).stdout)
    assert before[1] != SLICE_NS, "a process of its own kind does not"
    assert after == thread == [max(NICE, before[0]), SLICE_NS]


def test_a_thread_in_idle_turns_that_comes_late_has_its_share_for_a_while() -> None:
    now, taken = [100.0], []
    turns = IdleTurns(lambda: now[0], taken.append)
    turns.begin()
    assert taken == [True, False], "there and back, by another thread"
    turns.step()
    assert turns.idle and taken[2:] == [True]
    now[0] += 5 + LATE_S - 0.001
    turns.step(5.0)
    assert turns.idle, "as late as it may be"
    now[0] += LATE_S + 0.001
    turns.step()
    assert not turns.idle and taken[3:] == [False]
    now[0] += SHARE_S - LATE_S
    turns.step(SHARE_S)
    assert not turns.idle
    now[0] += LATE_S
    turns.step()
    assert turns.idle and taken[3:] == [False, True]
    turns.begin()  # connected anew
    assert len(taken) == 5


def test_who_could_not_come_back_never_goes() -> None:
    taken: list[bool] = []

    def take(idle: bool) -> None:
        if not idle:
            raise PermissionError(1, "Operation not permitted")
        taken.append(threading.current_thread() is not threading.main_thread())

    turns = IdleTurns(take=take)
    turns.begin()
    turns.step()
    assert not turns.idle and taken == [True], "only the thread that tried it, which has ended"


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="idle turns are Linux's")
def test_it_is_the_thread_alone_and_it_keeps_its_nice_value() -> None:
    found, now = [], [100.0]

    def work() -> None:
        turns = IdleTurns(lambda: now[0])
        turns.begin()
        turns.step()
        found.append((turns.idle, os.sched_getscheduler(0)))
        now[0] += 1
        turns.step()
        found.append((turns.idle, os.sched_getscheduler(0)))

    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    may = found[0][0]
    assert found == [(may, os.SCHED_IDLE if may else os.SCHED_OTHER), (False, os.SCHED_OTHER)]
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before
