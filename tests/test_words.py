"""Plain words of a table: the same memory as its fields, and only whole fields can be named."""

from __future__ import annotations

import numpy as np
import pytest

from engine.market import ACCOUNT, HOLDING, INSTRUMENT, MARKET, Capacity, Market
from engine.rules import Rules
from engine.words import octet_of, octets, word_of, words


@pytest.mark.parametrize("dtype", [ACCOUNT, HOLDING, INSTRUMENT, MARKET])
def test_every_whole_field_is_found_where_numpy_has_it(dtype) -> None:
    table = np.zeros(3, dtype)
    flat, single, size = words(table), octets(table), dtype.itemsize
    for name, (kind, _) in dtype.fields.items():
        if kind in (np.dtype("<i8"), np.dtype("<u8")):
            flat[2 * size // 8 + word_of(dtype, name)] = 77
            assert table[2][name] == 77 and table[1][name] == 0, name
        elif kind == np.dtype("u1"):
            single[size + octet_of(dtype, name)] = 5
            assert table[1][name] == 5 and table[2][name] == 0, name
        else:
            with pytest.raises(AssertionError):
                word_of(dtype, name)


def test_a_lock_of_the_slow_lane_is_seen_in_the_table_and_nowhere_else() -> None:
    market = Market(Rules.national(), Capacity(accounts=3, instruments=2, orders=64, levels=4_096))
    market.holdings["sellable"] = 500
    before = market.holdings.copy()
    market.lock_sell(1, 1, 200)
    before[1, 1]["sellable"], before[1, 1]["locked"] = 300, 200
    assert (market.holdings == before).all()


def test_what_does_not_fit_64_bits_is_an_error_and_not_another_number() -> None:
    with pytest.raises(ValueError, match="memoryview"):
        words(np.zeros(1, HOLDING))[0] = 1 << 63
