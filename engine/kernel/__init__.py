"""The exchange kernel: a batch of COMMAND records in, EVENT records out, in machine code.

`run` carries out docs/matching.md to the letter: checks in their order, locks, price-time matching (R8.1), best five
(R8.2), self-trade prevention (R8.5), T+1 (R5.5), fees on the running total (D16), day statistics and the composite
(R6, R7). It is deterministic: nothing but the tables and the commands goes in, and it never allocates.

All state is passed by address in one CONTROL record, because a call with a dozen arrays costs 1.5 µs and one with two
integers 0.25. `run` stops early when the events' buffer is full, when the table of deals is full, or before a command
of kind MESSAGE; CONTROL.status says why, and calling it again with the rest of the commands goes on exactly there, in
the middle of a sweep if need be: the order in flight stands in CONTROL, always.

What the market does, and where::

    batch        one command after the other; which order a command names; repeated requests; the look ahead
    orders       a new order: all its checks in their order, then its lock and its place
    matching     the order in flight against the other side: best price first, first come first served
    deals        one deal: pay, deliver, fees, statistics, its two events
    cancel       cancel                              replace      replace and reduce
    listing      take (R8.4)                         mass_cancel  mass cancel, and all that ends orders at once
    checks       what several kinds of commands have to pass
    locks        fees, and what an open order holds  events       EVENT rows; rejects
    tables       all tables as rows at addresses     control      CONTROL: what goes in and out, the order in flight
    answers      codes, reasons, kinds as constants      depth        the best levels, for those who look at them

`part`s become part of `run`. `shared` functions are called, with the control record's address: they make their own view
of the tables, which costs some thirty instructions, and are what is rare or large (engine.machine_code). The book's
primitives are engine.book's.
"""

from engine.kernel.batch import run
from engine.kernel.control import AT_MESSAGE, CONTROL, DEALS_FULL, DONE, OUTPUT_FULL, ROOM
from engine.kernel.depth import best_levels
from engine.kernel.mass_cancel import sweep
from engine.kernel.tables import FLAG_POST_ONLY

__all__ = [
    "AT_MESSAGE",
    "CONTROL",
    "DEALS_FULL",
    "DONE",
    "FLAG_POST_ONLY",
    "OUTPUT_FULL",
    "ROOM",
    "best_levels",
    "run",
    "sweep",
]
