"""A journal of a few made-up days of the national market, with bulk deals, an auction, snapshots and seals."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from engine.exchange import ENGINE_ABI, Exchange
from engine.journal import Identity, Journal, RealDisk
from engine.records import BUY, SELL
from engine.rules import Rules
from replay.day_session import DaySession
from replay.flow import Episode
from replay.pseudo_random import PseudoRandom

DATES = (20251201, 20251202, 20251203)
CODES = ("CEA23", "CEA24")
REFERENCES = {"CEA23": 6000, "CEA24": 6100}


def random_day(chance: PseudoRandom, prices: dict[str, int], count: int) -> list[Episode]:
    """Episodes of a day: sweeps of one to three levels around a slowly moving price."""
    episodes = []
    for _ in range(count):
        code, side = chance.one_of(CODES), chance.below(2)
        prices[code] += chance.between(-6, 6)
        way = 1 if side == BUY else -1
        levels = chance.between(1, 3)
        deals = [(prices[code] + way * n, chance.between(1, 900)) for n in range(levels)]
        episodes.append(Episode(code, side, deals))
        assert side in (BUY, SELL)
    return episodes


def make_journal(folder: Path, *, episodes: int = 40, seed: int = 1, segment_bytes: int = 1 << 20) -> Exchange:
    """Writes the journal and returns the exchange as it was when it ended."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = Rules.national()
    identity = Identity(ENGINE_ABI, rules.hash(), journal_id=7)
    journal = Journal.open(RealDisk(folder), identity, segment_bytes=segment_bytes)
    real, chance, prices = Exchange.apply, PseudoRandom(seed), dict(REFERENCES)

    def recording(self, commands, payloads=b""):
        journal.append(commands, bytes(payloads))
        return real(self, commands, payloads)

    with patch.object(Exchange, "apply", recording):
        session = DaySession(rules)
        for date in DATES:
            first = date == DATES[0]
            session.begin(date, CODES, REFERENCES if first else {}, 6050 if first else 0)
            bulk = {"CEA24": [(prices["CEA24"], 150_000)]} if date != DATES[1] else {}
            auctions = {"CEA23": [(prices["CEA23"] + 1, 700), (prices["CEA23"], 300)]} if date == DATES[1] else {}
            session.trade(random_day(chance, prices, episodes), bulk, auctions)
            assert all(r.reject < 100 for r in session.refused), session.refused  # desk and auction refuse nothing
            journal.commit()
            if date == DATES[1]:
                assert journal.snapshot(session.exchange.snapshot(), session.exchange.seq)
            session.end(date)
            journal.commit()
            journal.seal(date, session.exchange.seal_hash(), {"deals": len(session.deals)})
            prices = {
                c: int(session.exchange.market.instruments[i]["close"])
                for c, i in session.exchange.market.codes.items()
            }
    journal.close()
    return session.exchange
