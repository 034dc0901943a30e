"""The numbers that decide (R14.1: none is published, so all of them are configuration).

Defaults were chosen on the seeds 0 … 29 of :mod:`gateway.surveillance.scenarios` and counted on others
(docs/surveillance.md). Percentages are whole percent, ``_bp`` hundredths of a percent; all arithmetic is integer.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
Basis = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as conspicuous. ``repeat_minutes``: the same finding is told again after so long."""

    repeat_minutes: Count = 30

    # wash: the same two accounts trade back and forth, and mostly with each other
    wash_round_trip_t: Count = 900
    wash_switches: Count = 2
    wash_share_percent: Percent = 48  # of what the busier of the two trades: a market maker deals with everybody
    linked_factor: Count = 2  # accounts of one group: half of the quantities above suffice

    # pre-arranged: two orders of equal size within moments of each other, that deal with each other
    prearranged_within_ms: Count = 2_000
    prearranged_deals: Count = 4
    prearranged_share_percent: Percent = 60

    # buying high and selling low
    transfer_gap_bp: Basis = 150
    transfer_fen: Count = 8_000_00
    transfer_deals_each_way: Count = 1
    churn_gap_bp: Basis = 300
    churn_t: Count = 3_000
    churn_deals_each_way: Count = 4

    # layering: inside the last five minutes
    layering_life_ms: Count = 20_000
    layering_cancels: Count = 8
    layering_t: Count = 8_000
    layering_cancel_percent: Percent = 80
    layering_opposite_t: Count = 100
    layering_balance_percent: Percent = 40  # who quotes both sides alike is a market maker

    # the close (VWAP of the day, R6.4)
    late_minutes: Count = 15
    close_impact_bp: Basis = 25
    close_push_bp: Basis = 10  # against the price before those minutes: the day's trend does not hide an attempt
    close_late_share_percent: Percent = 50
    thin_close_t: Count = 100
    thin_close_change_bp: Basis = 400

    # concentration and holdings
    concentration_percent: Percent = 55
    concentration_volume_t: Count = 20_000
    large_holding_t: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: none, as the rules publish none

    # prices
    limit_near_ticks: Annotated[int, msgspec.Meta(ge=0)] = 0
    move_bp: Basis = 400
    move_share_percent: Percent = 50

    # news
    news_minutes: Count = 30
    news_t: Count = 5_000
    news_share_percent: Percent = 40
    news_one_way_percent: Percent = 90

    # bulk and auction deals, of some trading days together
    ring_days: Annotated[int, msgspec.Meta(ge=1, le=60)] = 5
    ring_t: Count = 500
    ring_share_percent: Annotated[int, msgspec.Meta(ge=34, le=100)] = 50  # at least a third: few edges per account
    ring_accounts_max: Annotated[int, msgspec.Meta(ge=3, le=8)] = 6
    agreed_transfer_fen: Count = 500_000_00
    agreed_transfer_gap_bp: Basis = 500
    off_market_bp: Basis = 2_000  # a report: bulk deals 10 to 30 % below the market are usual here
    desk_life_ms: Count = 60_000
    desk_withdrawals: Count = 6
    auction_cancelled_percent: Percent = 50  # of what was offered
    auction_winner_percent: Percent = 60
    auction_winner_t: Count = 200_000

    # one account's deals bring the price to its limit
    push_t: Count = 1_000
