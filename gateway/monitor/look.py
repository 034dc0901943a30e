"""How the page looks: style, colours, the two charts."""

from __future__ import annotations

from typing import Any, Final

LOOK_S: Final = 0.1  # how often it is asked whether there is a new deal, which is shown at once
TICK_S: Final = 0.25  # how often everything else is looked at
# 5 : 1 and more on white, and white on them
COLORS: Final = {"primary": "#2767b0", "positive": "#1b7a43", "warning": "#8a5a00"}
SHANGHAI_MS: Final = 8 * 3_600_000  # the chart shows exchange time, wherever the browser stands
UP, DOWN = "#d33a2f", "#16875b"  # red is up, as everywhere in China
LINE: Final = "#3b82d0"
AXIS: Final = {"fontSize": 12, "color": "#808890"}  # legible on white and on black
GRID: Final = {"lineStyle": {"color": "#80889044"}}

STYLE: Final = """
body { font-family: system-ui, "Noto Sans CJK SC", "WenQuanYi Micro Hei", sans-serif; font-size: 15px; }
.q-table th, .q-table td { font-size: 14px; padding: 4px 10px !important; }
.q-table__bottom, .q-table__bottom-item, .q-table__control { font-size: 13px; min-height: 36px; }
.q-field__label, .q-field__native, .q-field__input, .q-field__messages, .q-badge, .q-tooltip { font-size: 14px; }
.q-field--float .q-field__label { transform: translateY(-38%) scale(.9) !important; }
.q-tab__label { font-size: 15px; text-transform: none; }
.q-btn { text-transform: none; }
.nicegui-content { padding: 12px; gap: 12px; }
.tile { min-width: 185px; flex: 1 1 185px; padding: 10px 14px; gap: 2px; }
.tile b { font-size: 24px; font-variant-numeric: tabular-nums; }
.tile.chosen { outline: 2px solid #2767b0; } .body--dark .tile.chosen { outline-color: #8ab8f0; }
.tile:focus-visible, .q-tab:focus-visible, .q-btn:focus-visible, .rows tr:focus-visible { outline: 3px solid #e0a100; }
.figures { gap: 6px 28px; } .figure { font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums; }
.pale { color: #5c636b; } .body--dark .pale { color: #a9b1ba; } .concern { padding: 0 8px; }
.up { color: #c8322a; } .down { color: #12784f; }
.body--dark .up { color: #ff7b70; } .body--dark .down { color: #4fce9b; }
body.body--dark { --q-primary: #8ab8f0 !important; --q-negative: #ff8a80 !important; }
body.body--dark { --q-positive: #6fd39b !important; --q-warning: #ecc15a !important; }
.body--dark .q-badge { color: #111; }
.panel { flex: 1 1 340px; min-width: 0; padding: 12px 14px; } .num td { font-variant-numeric: tabular-nums; }
.panel .q-table__middle { max-height: 420px; } .panel thead th { position: sticky; top: 0; z-index: 1; }
.panel thead th { background: #fff; } .body--dark .panel thead th { background: #1d1d1d; }
.long { white-space: normal !important; min-width: 220px; }
.broad { flex: 3 1 560px; } .small { font-size: 14px; } .rows tbody tr { cursor: pointer; }
#stale { display: none; background: #b3261e; color: #fff; font-weight: 700; padding: 8px 14px; width: 100%; }
body.stale #stale { display: block; } body.stale .live { opacity: .45; }
body.stale .state { display: none; }
@media (max-width: 700px) {
  .q-tab { padding: 0 8px; } .nicegui-content { padding: 6px; gap: 8px; } .wide { display: none; }
  .tile { min-width: 150px; flex-basis: 150px; padding: 8px 10px; } .tile b { font-size: 20px; }
  .figures { gap: 4px 16px; } .figure { font-size: 15px; }
  .long { min-width: 300px; } .line { white-space: nowrap !important; }
  .panel { padding: 8px; flex-basis: 100%; } .q-table th, .q-table td { padding: 4px 6px !important; }
}
"""
# The page marks itself stale when the monitor's own process has gone silent, too. The keyboard reaches rows.
BEAT: Final = """<script>
window.ceaSeen = Date.now(); window.ceaOld = true;
window.ceaBeat = old => { window.ceaSeen = Date.now(); window.ceaOld = old; };
setInterval(() => {
    document.body.classList.toggle('stale', window.ceaOld || Date.now() - window.ceaSeen > 1500);
    document.querySelectorAll('.rows tbody tr:not([tabindex])').forEach(row => row.tabIndex = 0);
}, 200);
document.addEventListener('keydown', event => {
    if (event.key === 'Enter' && event.target.matches('.rows tbody tr')) event.target.click();
});
</script>"""


def _named(unit: str) -> dict[str, Any]:
    """An axis that says its unit."""
    return {"type": "value", "axisLabel": AXIS, "splitLine": GRID, "name": unit, "nameTextStyle": AXIS}


def curve_options(price: str) -> dict[str, Any]:
    """The intraday chart: prices as steps, between the limits where there are some; the midday break is grey.

    ``price``: its unit in words.
    """
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 56, "right": 62, "top": 30, "bottom": 28},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "time", "axisLabel": {**AXIS, "hideOverlap": True}},
        "yAxis": _named(price),
        "series": [
            {
                "type": "line",
                "step": "end",
                "showSymbol": False,
                "color": LINE,
                "data": [],
                "lineStyle": {"width": 2},
                "markLine": {"symbol": "none", "silent": True, "data": [], "label": {**AXIS, "textBorderWidth": 0}},
                "markArea": {"silent": True, "itemStyle": {"color": "#80889022"}, "data": []},
            }
        ],
    }


def limit_lines(low: int, high: int, reference: int) -> list[dict[str, Any]]:
    """Marks of a vintage's limits (R6.2) and its reference, prices in fen; a composite has no limits (0)."""
    marks = [{"yAxis": reference / 100, "lineStyle": {"type": "dotted", "color": "#808890"}}]
    for price, color in ((low, DOWN), (high, UP)):
        if price:
            marks.append({"yAxis": price / 100, "lineStyle": {"type": "dashed", "color": color}})
    return marks


def depth_options(quantity: str, price: str) -> dict[str, Any]:
    """The depth chart: cumulated tonnes of both sides, bids from the left, asks to the right. Units in words."""
    side = {"type": "line", "showSymbol": False, "data": [], "areaStyle": {"opacity": 0.25}}
    return {
        "animation": False,
        "grid": {"left": 64, "right": 56, "top": 30, "bottom": 28},
        "tooltip": {"trigger": "axis"},
        "xAxis": {**_named(price), "scale": True, "axisLabel": {**AXIS, "hideOverlap": True}},
        "yAxis": _named(quantity),
        # between two prices stands what can still be had at both: the better bid's total, the worse ask's
        "series": [{**side, "step": "start", "color": UP}, {**side, "step": "end", "color": DOWN}],
    }


def steps(levels: list[list[int]]) -> list[list[float]]:
    """Cumulated tonnes by price (CNY, for the chart only), by rising price. levels: [price, quantity, orders]."""
    total, found = 0, []
    for price, quantity, _ in levels:
        total += quantity
        found.append([price / 100, total])
    return sorted(found)
