"""What the auction machine remembers of auctions that are not over, and how that is dumped and loaded."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.auction_allocation import Bid
from engine.auction_states import Stage


class Auction(msgspec.Struct, array_like=True):
    """An auction from its application to its end."""

    number: int
    seller: int
    instrument: int
    quantity: int
    date: int
    mode: str
    reserve: str
    answer_by: int  # dates, YYYYMMDD
    freeze_by: int
    waived: bool
    stage: Stage = Stage.NEW
    late: bool = False
    locked: int = 0  # t of the seller's
    opens: int = 0  # ns UTC
    closes: int = 0
    bid_min: int = 1
    raise_allowed: bool = True
    cancel_allowed: bool = False
    next_bid: int = 1
    bids: dict[int, Bid] = {}
    bids_of: dict[int, int] = {}  # account → its open bids


class AuctionsState(msgspec.Struct, array_like=True):
    """Everything that a snapshot keeps of the auctions, in the order of the numbers."""

    auctions: list[Auction]
    ended: list[tuple[int, int]]
    next_auction: int


_encoder = msgspec.msgpack.Encoder()  # dictionaries in the order of insertion: it is part of the state
_decoder: Any = msgspec.msgpack.Decoder(AuctionsState)


def encode_state(state: AuctionsState) -> bytes:
    """Deterministic MessagePack: the same sequence of commands gives the same bytes, also over a load."""
    return _encoder.encode(state)


def decode_state(data: bytes) -> AuctionsState:
    """The reverse of :func:`encode_state`; msgspec.ValidationError where the bytes are something else."""
    return _decoder.decode(data)
