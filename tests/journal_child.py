"""A process that journals until it is stopped: ``python journal_child.py FOLDER [GROUPS]``, run by the fault tests.

Every commit that has returned is told on standard output, as a member would be told: one sequence a line.
"""

from __future__ import annotations

import random
import sys

from journal_crash import IDENTITY, some_commands

from engine.journal import Journal, JournalFailed, RealDisk

SEGMENT_BYTES = 64 << 10


def main(folder: str, groups: int) -> None:
    journal = Journal.open(RealDisk(folder), IDENTITY, segment_bytes=SEGMENT_BYTES)
    rng = random.Random(journal.next_seq)
    print("ready", flush=True)
    for number in range(groups):
        journal.append(*some_commands(rng, journal.next_seq, rng.randrange(1, 30)))
        print(journal.commit(), flush=True)
        if number % 50 == 49:
            journal.snapshot(b"state" * 1_000, journal.durable_seq)
    journal.close()


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    except JournalFailed as failed:
        print(failed, file=sys.stderr)
        raise
