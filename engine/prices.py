"""Prices of the market in exact integers: limits, closing price, change, composite (R6, R7).

Everything is int (fen, tonnes, basis points). Rounding is half up where prices are made (R6.2, R6.4) and
half away from zero where a change is printed (R6.6, D19); there is no float in this module.
"""

from __future__ import annotations

from typing import Final

BASIS_POINTS: Final = 10_000


def divide_half_up(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` rounded to an integer, ties towards +infinity. ``denominator`` > 0."""
    return (2 * numerator + denominator) // (2 * denominator)


def divide_half_away(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` rounded to an integer, ties away from zero. ``denominator`` > 0."""
    quotient = divide_half_up(abs(numerator), denominator)
    return quotient if numerator >= 0 else -quotient


def price_limits(reference_fen: int, limit_bp: int, tick_fen: int = 1) -> tuple[int, int]:
    """Lower and upper limit in fen: round_half_up(reference × (1 ∓ limit), tick) (R6.1, R6.2).

    Ties go up on both sides, so that a limit can lie a fraction beyond the percentage (E4).
    """
    scale = BASIS_POINTS * tick_fen
    low = divide_half_up(reference_fen * (BASIS_POINTS - limit_bp), scale) * tick_fen
    high = divide_half_up(reference_fen * (BASIS_POINTS + limit_bp), scale) * tick_fen
    return low, high


def closing_price(amount_fen: int, quantity_t: int, previous_close_fen: int) -> int:
    """The day's close: volume-weighted average of all listed deals, half up; no deal: the previous close (R6.4)."""
    return divide_half_up(amount_fen, quantity_t) if quantity_t else previous_close_fen


def change_bp(close_fen: int, previous_close_fen: int) -> int:
    """Change against the previous close in hundredths of a per cent, half away from zero (R6.6, D19)."""
    return divide_half_away((close_fen - previous_close_fen) * BASIS_POINTS, previous_close_fen)


def composite_price(prices_fen: list[int], weights: list[int]) -> int:
    """Σ weight × price / Σ weight, half up to a fen (R7.1). Weights are whole numbers; their sum must be > 0."""
    return divide_half_up(sum(w * p for w, p in zip(weights, prices_fen, strict=True)), sum(weights))


def fee_fen(amount_fen: int, rate_ppm: int) -> int:
    """Fee on a running total of ``amount_fen``, half up (D16). ``rate_ppm`` is parts per million of the amount."""
    return divide_half_up(amount_fen * rate_ppm, 1_000_000)


def parse_price(text: str, tick_fen: int = 1) -> int:
    """Decimal text such as ``59.5`` to fen. ValueError names what is wrong; no float in between."""
    whole, dot, fraction = text.strip().partition(".")
    digits = whole + fraction
    if not digits.isascii() or not digits.isdigit() or len(digits) > 17 or (dot and not fraction) or not whole:
        raise ValueError(f"price {text!r}: expected decimal digits such as 59.50")
    if len(fraction) > 2 and fraction[2:].strip("0"):
        raise ValueError(f"price {text!r}: at most two decimals (tick 0.01)")
    value = int(whole) * 100 + int((fraction + "00")[:2])
    if value % tick_fen:
        raise ValueError(f"price {text!r}: not a multiple of the tick")
    return value


def format_price(price_fen: int) -> str:
    """Fen to decimal text with two places: 5950 → ``59.50``."""
    sign = "-" if price_fen < 0 else ""
    whole, fraction = divmod(abs(price_fen), 100)
    return f"{sign}{whole}.{fraction:02d}"


def format_amount(amount_fen: int) -> str:
    """Fen to decimal text with thousands separators: 3826804210 → ``38,268,042.10``."""
    sign = "-" if amount_fen < 0 else ""
    whole, fraction = divmod(abs(amount_fen), 100)
    return f"{sign}{whole:,}.{fraction:02d}"


def format_change(basis_points: int) -> str:
    """Hundredths of a per cent to text: 25 → ``0.25%``."""
    sign = "-" if basis_points < 0 else ""
    whole, fraction = divmod(abs(basis_points), 100)
    return f"{sign}{whole}.{fraction:02d}%"
