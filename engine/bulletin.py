"""The day's bulletin: composite, day, year and all-time totals, and the table per vintage (R11).

Made from the engine's :class:`engine.messages.DayClosed` and the totals of the days before it. The sentences
follow the order of R11.2; prices in yuan with two decimals, quantities in whole tonnes, exact integers
inside. A correction is a new ``version`` of a day's bulletin; both stay (D29).
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.calendar import to_date
from engine.messages import DayClosed, VintageClose
from engine.prices import format_amount, format_change, format_price

COMPOSITE: Final = "COMCEA"
"""The code under which the composite is published (R1.4): of no instrument."""


class Totals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Volumes (t) and amounts (fen) of the three trading methods over some days."""

    listed_volume: int = 0
    listed_amount: int = 0
    bulk_volume: int = 0
    bulk_amount: int = 0
    auction_volume: int = 0
    auction_amount: int = 0

    @property
    def volume(self) -> int:
        """All methods, t."""
        return self.listed_volume + self.bulk_volume + self.auction_volume

    @property
    def amount(self) -> int:
        """All methods, fen."""
        return self.listed_amount + self.bulk_amount + self.auction_amount

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            *(a + b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True))
        )


class OpeningTotals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was traded up to and including ``until`` (YYYYMMDD): in its year, and since launch (D29)."""

    until: int
    year: Totals
    launch: Totals


class Bulletin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a day's bulletin. ``year`` and ``launch`` include the day; prices in fen, changes in 0.01 %.

    ``reason``: why there is this version, empty for the first.
    """

    date: int
    version: int
    composite_open: int
    composite_high: int
    composite_low: int
    composite_close: int
    composite_previous: int
    composite_change_bp: int
    day: Totals
    year: Totals
    launch: Totals
    vintages: tuple[VintageClose, ...]
    reason: str = ""


# The columns of the table per vintage: English, Chinese.
COLUMNS: Final = (
    ("vintage", "品种"),
    ("open", "开盘价"),
    ("high", "最高价"),
    ("low", "最低价"),
    ("close", "收盘价"),
    ("change", "涨跌幅"),
    ("listed t", "挂牌量(吨)"),
    ("listed CNY", "挂牌额(元)"),
    ("bulk t", "大宗量(吨)"),
    ("bulk CNY", "大宗额(元)"),
    ("auction t", "竞价量(吨)"),
    ("auction CNY", "竞价额(元)"),
)


def day_totals(closed: DayClosed) -> Totals:
    """Sums of a closed day over its vintages."""
    v = closed.vintages
    return Totals(
        listed_volume=sum(x.volume for x in v),
        listed_amount=sum(x.amount for x in v),
        bulk_volume=sum(x.bulk_volume for x in v),
        bulk_amount=sum(x.bulk_amount for x in v),
        auction_volume=sum(x.auction_volume for x in v),
        auction_amount=sum(x.auction_amount for x in v),
    )


def make_bulletin(closed: DayClosed, before: OpeningTotals, version: int = 1, reason: str = "") -> Bulletin:
    """The bulletin of a closed day. ``before`` are the totals up to the trading day before it.

    A day of a later year than ``before`` starts the year's total anew. ValueError when ``before`` is not
    before the day.
    """
    if before.until >= closed.date:
        raise ValueError(f"bulletin of {closed.date}: the totals before it already include {before.until}")
    day = day_totals(closed)
    year = before.year if before.until // 10_000 == closed.date // 10_000 else Totals()
    return Bulletin(
        date=closed.date,
        version=version,
        composite_open=closed.composite_open,
        composite_high=closed.composite_high,
        composite_low=closed.composite_low,
        composite_close=closed.composite_close,
        composite_previous=closed.composite_previous,
        composite_change_bp=closed.composite_change_bp,
        day=day,
        year=year + day,
        launch=before.launch + day,
        vintages=closed.vintages,
        reason=reason,
    )


def totals_after(bulletin: Bulletin) -> OpeningTotals:
    """What the next day's bulletin starts from."""
    return OpeningTotals(until=bulletin.date, year=bulletin.year, launch=bulletin.launch)


def sentences_zh(b: Bulletin) -> list[str]:
    """The bulletin's sentences in Chinese, in the order of R11.2."""
    date, basis_points = to_date(b.date), abs(b.composite_change_bp)
    day = f"{date.year}年{date.month}月{date.day}日"
    moved = "上涨" if b.composite_change_bp > 0 else "下跌"
    change = f"较前一日{moved}{format_change(basis_points)}" if basis_points else "与前一日持平"
    auction = f"今日单向竞价{_traded_zh(b.day.auction_volume, b.day.auction_amount)}。"
    correction = [f"更正（第{b.version}版）：{b.reason}"] if b.reason else []
    return [
        *correction,
        f"{day}，全国碳市场综合价格行情为：开盘价{format_price(b.composite_open)}元/吨，"
        f"最高价{format_price(b.composite_high)}元/吨，最低价{format_price(b.composite_low)}元/吨，"
        f"收盘价{format_price(b.composite_close)}元/吨，收盘价{change}。",
        f"今日挂牌协议交易{_traded_zh(b.day.listed_volume, b.day.listed_amount)}；"
        f"大宗协议交易{_traded_zh(b.day.bulk_volume, b.day.bulk_amount)}；"
        + (auction if b.day.auction_volume else "今日无单向竞价。"),
        f"今日全国碳排放配额总{_traded_zh(b.day.volume, b.day.amount)}。",
        f"{date.year}年1月1日至{date.month}月{date.day}日，"
        f"全国碳市场碳排放配额{_traded_zh(b.year.volume, b.year.amount)}。",
        f"截至{day}，全国碳市场碳排放配额累计{_traded_zh(b.launch.volume, b.launch.amount)}。",
    ]


def sentences_en(b: Bulletin) -> list[str]:
    """The same sentences in English."""
    date, basis_points = to_date(b.date).isoformat(), abs(b.composite_change_bp)
    moved = "up" if b.composite_change_bp > 0 else "down"
    change = f"{moved} {format_change(basis_points)} on the day before" if basis_points else "unchanged"
    auction = f"one-way auction: {_traded_en(b.day.auction_volume, b.day.auction_amount)}."
    correction = [f"Correction, version {b.version}: {b.reason}"] if b.reason else []
    return [
        *correction,
        f"{date}: composite open {format_price(b.composite_open)}, high {format_price(b.composite_high)}, "
        f"low {format_price(b.composite_low)}, close {format_price(b.composite_close)} CNY/t, {change}.",
        f"Listed agreements: {_traded_en(b.day.listed_volume, b.day.listed_amount)}; "
        f"bulk agreements: {_traded_en(b.day.bulk_volume, b.day.bulk_amount)}; "
        + (auction if b.day.auction_volume else "no one-way auction today."),
        f"Total of the day: {_traded_en(b.day.volume, b.day.amount)}.",
        f"Total of {b.date // 10_000} up to today: {_traded_en(b.year.volume, b.year.amount)}.",
        f"Total since launch: {_traded_en(b.launch.volume, b.launch.amount)}.",
    ]


def table_rows(b: Bulletin) -> list[tuple[str, ...]]:
    """One row of text per vintage and the composite's, in the order of :data:`COLUMNS`; no deal, no high: ``-``."""
    rows: list[tuple[str, ...]] = [
        (
            v.code,
            format_price(v.open),
            format_price(v.high) if v.volume else "-",
            format_price(v.low) if v.volume else "-",
            format_price(v.close),
            format_change(v.change_bp),
            f"{v.volume:,}",
            format_amount(v.amount),
            f"{v.bulk_volume:,}",
            format_amount(v.bulk_amount),
            f"{v.auction_volume:,}",
            format_amount(v.auction_amount),
        )
        for v in b.vintages
    ]
    composite = (b.composite_open, b.composite_high, b.composite_low, b.composite_close)
    sums = msgspec.structs.astuple(b.day)
    texts = [f"{x:,}" if i % 2 == 0 else format_amount(x) for i, x in enumerate(sums)]
    rows.append((COMPOSITE, *map(format_price, composite), format_change(b.composite_change_bp), *texts))
    return rows


def _traded_zh(volume_t: int, amount_fen: int) -> str:
    return f"成交量{volume_t:,}吨，成交额{format_amount(amount_fen)}元"


def _traded_en(volume_t: int, amount_fen: int) -> str:
    return f"{volume_t:,} t, {format_amount(amount_fen)} CNY"
