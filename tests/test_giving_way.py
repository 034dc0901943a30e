"""What gives way to the exchange does so with every thread (cea.giving_way)."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys

import pytest

from cea.giving_way import NICE, SLICE_NS

# What a process and a thread that it starts afterwards are told of themselves (sched_getattr(2)): nice, slice in ns.
LOOK = """
import ctypes, json, os, struct, sys, threading
from cea.giving_way import SCHED_ATTR, give_way

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
