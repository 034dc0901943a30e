"""TAKE: the take command of the matching policy `listing` (R8.3, R8.4, D14)."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import next_level
from engine.kernel.answers import (
    C_OUT_OF_REACH,
    C_SELF_TRADE,
    C_WRONG_POLICY,
    E_ACCEPTED,
    R_TAKEN_OUT,
    R_TURNOVER_LIMIT,
)
from engine.kernel.checks import check_account, check_market, check_size
from engine.kernel.deals import deal
from engine.kernel.events import emit_order, reject
from engine.kernel.matching import end_incoming, is_counted_out
from engine.kernel.orders import place_order
from engine.kernel.tables import U0, ZERO, price_of, tables_at
from engine.machine_code import shared
from engine.market import BEST_LEVEL, LISTING


@shared
def _reachable(t, i, s, level):
    """May a taker reach a listing at ``level`` of side ``s`` (R8.4, D14)?"""
    at = np.uint64(t.sides[s].best)
    if i.reach == BEST_LEVEL:
        return level == at
    visited = 1
    while at < level:
        if i.best_levels != 0 and visited == i.best_levels:
            return False
        at = next_level(t.sides, t.bitmap, s, at)
        visited += 1
    return at == level


@shared
def take(address, w, c, maker_slot):
    """TAKE: a taker names one listing and takes a quantity of it at its price (R8.3, R8.4). Returns w."""
    t = tables_at(address)
    m = t.market[np.uint64(0)]
    maker = t.orders[maker_slot]
    instrument = np.uint64(maker.instrument)
    i = t.instruments[instrument]
    side = (maker.flags & 1) ^ 1
    s = np.uint64(2) * instrument + np.uint64(side ^ 1)
    price = price_of(t, s, np.uint64(maker.level))
    code = check_market(m, i, c.time_ns)
    if code == 0:
        code = check_account(t, m, c.account)
    if code == 0:
        if i.policy != LISTING:
            code = C_WRONG_POLICY
        elif maker.account == c.account:
            code = C_SELF_TRADE
        elif not _reachable(t, i, s, np.uint64(maker.level)):
            code = C_OUT_OF_REACH
    if code == 0:
        code = check_size(i, price, c.quantity)
    slot = U0
    if code == 0:
        code, slot = place_order(t, m, c, instrument, np.uint64(side), U0, price, c.quantity)
    if code != 0:
        return reject(address, w, c, code)
    w = emit_order(t, w, c, E_ACCEPTED, slot, price, c.quantity, c.quantity, c.request_no, ZERO)
    if is_counted_out(t, m, i, maker, t.orders[slot]):
        return end_incoming(address, w, c, slot, price, c.quantity, R_TURNOVER_LIMIT)
    w, quantity = deal(address, w, c, maker_slot, slot, price, c.quantity)
    return end_incoming(address, w, c, slot, price, c.quantity - quantity, R_TAKEN_OUT)
