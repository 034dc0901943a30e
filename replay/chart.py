"""The picture of a trading day: per vintage the listed deals, the day's range inside its limits, and the volume.

Texts are Chinese and English where a CJK font is installed, else English only, with a line in the log that
says how to get one (D35). matplotlib is imported when a picture is drawn, not before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.bulletin import Bulletin
from engine.calendar import NS_PER_SECOND, to_date
from engine.messages import VintageClose
from engine.prices import format_change, format_price
from replay.whole_file import whole_file

log = logging.getLogger(__name__)

# Names that matplotlib's font list may have, best first; each covers simplified Chinese.
CJK_FONTS: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",  # the same file on Debian: the list often knows only its first face
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
)
CJK_FILES: Final = ("cjk", "notosanssc", "sourcehan", "wqy", "droidsansfallback")  # parts of their files' names
FONT_ADVICE: Final = "no CJK font found, the chart is in English; Debian: apt install fonts-noto-cjk"
BIN_MINUTES: Final = 5  # of the volume bars: 48 in a day of four hours

# Red rises and green falls in this market; of the many reds and greens, Okabe and Ito's vermilion and bluish green,
# which colour-blind readers tell apart.
INK, RISE, FALL, PALE, BAND = "#22303c", "#d55e00", "#009e73", "#c9d3dc", "#eef2f5"

Deals = Mapping[str, Sequence[tuple[int, int, int]]]  # code → (time_ns, price_fen, quantity_t), in order of time
Hours = tuple[int, int, int, int]  # morning open and end, afternoon open, close, ns UTC


def cjk_font() -> str | None:
    """Name of an installed font with Chinese glyphs, None when there is none."""
    from matplotlib import font_manager

    found = _first_of(CJK_FONTS, font_manager.fontManager.ttflist)
    if found is None:  # matplotlib remembers its list of fonts: one that was installed since is not in it
        for file in font_manager.findSystemFonts():
            if any(part in Path(file).name.lower() for part in CJK_FILES):
                font_manager.fontManager.addfont(file)
        found = _first_of(CJK_FONTS, font_manager.fontManager.ttflist)
    return found


def _first_of(names: Sequence[str], fonts: Sequence[Any]) -> str | None:
    installed = {f.name for f in fonts}
    return next((name for name in names if name in installed), None)


def draw_day(path: Path, bulletin: Bulletin, deals: Deals, hours: Hours) -> Path:
    """Writes the day's chart as a PNG to ``path`` and returns it.

    One row per vintage with listed deals (every vintage on a day without any): price over the hours of trading,
    the lunch break left out; beside it the limits with the day's range in them; below it the volume.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    font = cjk_font()
    if font is None:
        log.warning(FONT_ADVICE)
    shown = [v for v in bulletin.vintages if v.volume] or list(bulletin.vintages)
    with pyplot.rc_context({"font.family": [font, "DejaVu Sans"] if font else ["DejaVu Sans"], "axes.edgecolor": INK}):
        figure = pyplot.figure(figsize=(13, 1.6 + 3.0 * len(shown)), dpi=110)
        outer = figure.add_gridspec(len(shown), 1, hspace=0.32, top=1 - 0.95 / (1.6 + 3.0 * len(shown)), bottom=0.05)
        outer.update(left=0.07, right=0.97)
        for row, vintage in enumerate(shown):
            inner = outer[row].subgridspec(2, 2, height_ratios=(3, 1), width_ratios=(9, 1), hspace=0.06, wspace=0.12)
            price = figure.add_subplot(inner[0, 0])
            volume = figure.add_subplot(inner[1, 0], sharex=price)
            gauge = figure.add_subplot(inner[:, 1])
            own = deals.get(vintage.code, ())
            _draw_price(price, vintage, own, hours, chinese=font is not None)
            _draw_volume(volume, own, hours, chinese=font is not None)
            _draw_gauge(gauge, vintage, chinese=font is not None)
            pyplot.setp(price.get_xticklabels(), visible=False)
        figure.suptitle(_title(bulletin, chinese=font is not None), x=0.07, ha="left", fontsize=13, color=INK)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            figure.savefig(part, format=path.suffix[1:])
        pyplot.close(figure)
    return path


def _title(b: Bulletin, *, chinese: bool) -> str:
    prices = (b.composite_open, b.composite_high, b.composite_low, b.composite_close)
    names = _names(chinese=chinese)
    composite = "  ".join(f"{name} {format_price(price)}" for name, price in zip(names, prices, strict=False))
    date, change = to_date(b.date).isoformat(), format_change(b.composite_change_bp)
    market = "全国碳市场 National carbon market" if chinese else "National carbon market"
    name = "综合价格 composite" if chinese else "composite"
    return f"{market}  {date}\n{name}  {composite}  {change}"


def _names(*, chinese: bool) -> tuple[str, str, str, str, str]:
    """Open, high, low, close, previous close."""
    if chinese:
        return "开 open", "高 high", "低 low", "收 close", "前收 previous"
    return "open", "high", "low", "close", "previous"


def trading_minutes(time_ns: int, hours: Hours) -> float:
    """Minutes of trading since the open; the break counts nothing."""
    opened, morning_end, afternoon, close = hours
    before_noon = min(max(time_ns, opened), morning_end) - opened
    after_noon = max(min(time_ns, close) - afternoon, 0)
    return (before_noon + after_noon) / (60 * NS_PER_SECOND)


def _axis_of_hours(axis: Any, hours: Hours) -> None:
    opened, morning_end, afternoon, close = hours
    noon = trading_minutes(morning_end, hours)
    end = trading_minutes(close, hours)
    axis.set_xlim(0, end)
    hour = 3600 * NS_PER_SECOND
    at = {0.0: _clock(opened), noon: f"{_clock(morning_end)} | {_clock(afternoon)}", end: _clock(close)}
    at.update({trading_minutes(t, hours): _clock(t) for t in range(opened + hour, morning_end, hour)})
    at.update({trading_minutes(t, hours): _clock(t) for t in range(afternoon + hour, close, hour)})
    axis.set_xticks(sorted(at), [at[x] for x in sorted(at)])
    axis.axvline(noon, color=PALE, linewidth=1, linestyle=(0, (2, 2)))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(colors=INK, labelsize=9)


def _clock(time_ns: int) -> str:
    from engine.calendar import format_time

    return format_time(time_ns)[:5]


def _draw_price(
    axis: Any, v: VintageClose, own: Sequence[tuple[int, int, int]], hours: Hours, *, chinese: bool
) -> None:
    _axis_of_hours(axis, hours)
    colour = RISE if v.close >= v.previous else FALL  # red rises in this market
    axis.axhline(v.previous / 100, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.axhline(v.close / 100, color=colour, linewidth=0.8)
    if own:
        minutes = [trading_minutes(t, hours) for t, _, _ in own]
        prices = [p / 100 for _, p, _ in own]
        axis.step([*minutes, trading_minutes(hours[3], hours)], [*prices, prices[-1]], where="post", color=INK, lw=0.9)
        largest = max(q for _, _, q in own)
        axis.scatter(minutes, prices, s=[6 + 60 * q / largest for _, _, q in own], color=INK, alpha=0.35, linewidths=0)
    shown = [v.previous, v.close, *([v.high, v.low] if v.volume else [])]
    margin = max(10, (max(shown) - min(shown)) // 8)
    axis.set_ylim((min(shown) - margin) / 100, (max(shown) + margin) / 100)
    opened, high, low, close, previous = _names(chinese=chinese)
    range_text = f"{high} {format_price(v.high)}  {low} {format_price(v.low)}  " if v.volume else ""
    axis.set_title(
        f"{v.code}   {opened} {format_price(v.open)}  {range_text}{close} {format_price(v.close)}  "
        f"{format_change(v.change_bp)}   {previous} {format_price(v.previous)}",
        loc="left",
        fontsize=11,
        color=INK,
    )
    right = trading_minutes(hours[3], hours) * 1.004
    axis.text(right, v.close / 100, close.replace(" ", "\n"), fontsize=8, color=colour, va="center", clip_on=False)
    if abs(v.close - v.previous) > 2 * margin:  # two lines each: nearer, they would lie on one another
        axis.text(
            right, v.previous / 100, previous.replace(" ", "\n"), fontsize=8, color=INK, va="center", clip_on=False
        )
    axis.set_ylabel("元/吨 CNY/t" if chinese else "CNY/t", fontsize=9, color=INK)


def _draw_volume(axis: Any, own: Sequence[tuple[int, int, int]], hours: Hours, *, chinese: bool) -> None:
    _axis_of_hours(axis, hours)
    bins: dict[int, int] = {}
    last_bin = int(trading_minutes(hours[3], hours)) // BIN_MINUTES - 1
    for time_ns, _, quantity in own:
        at = min(int(trading_minutes(time_ns, hours)) // BIN_MINUTES, last_bin)
        bins[at] = bins.get(at, 0) + quantity
    axis.bar(
        [(at + 0.5) * BIN_MINUTES for at in bins],
        [quantity / 1000 for quantity in bins.values()],
        width=BIN_MINUTES * 0.8,
        color="#7f97ab",
    )
    axis.set_ylabel("千吨 kt" if chinese else "kt", fontsize=9, color=INK)
    axis.set_ylim(bottom=0)


def _draw_gauge(axis: Any, v: VintageClose, *, chinese: bool) -> None:
    """The whole way from limit to limit, with the day's range, its close and the reference in it."""
    low, high = v.limit_low / 100, v.limit_high / 100
    axis.set_xlim(0, 1)
    axis.set_ylim(low, high)
    axis.set_facecolor(BAND)
    if v.volume:
        axis.axhspan(v.low / 100, v.high / 100, 0.25, 0.75, color="#7f97ab")
    axis.axhline(v.previous / 100, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.axhline(v.close / 100, color=RISE if v.close >= v.previous else FALL, linewidth=1.2)
    axis.set_xticks([])
    axis.set_yticks([low, v.previous / 100, high], [format_price(p) for p in (v.limit_low, v.previous, v.limit_high)])
    axis.tick_params(colors=INK, labelsize=8)
    axis.set_title("涨跌幅限制\nlimits" if chinese else "limits", fontsize=9, color=INK)
