"""What an alert says, in English and Chinese: a sentence's code and the figures that a detector put into it.

Alerts carry code and figures, never a finished sentence, so that each reader gets the own language. In a sentence
``{x:,}`` is a number, ``{x:bp}`` basis points as percent, ``{x:cny}`` fen as CNY, ``{x:price}`` fen as CNY a tonne.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, Final

from engine.prices import format_amount, format_price

Facts = Mapping[str, int | str]

SENTENCES: Final[dict[str, tuple[str, str]]] = {
    "wash": (
        "{trip:,} t went there and back between accounts {low} and {high}, direction changed {switches} times; "
        "{share} % of what the busier of them traded",
        "账户 {low} 与 {high} 之间往返成交 {trip:,} 吨，方向变换 {switches} 次，占两者中成交较多一方成交量的 {share}%",
    ),
    "prearranged": (
        "{count} deals between accounts {low} and {high} of two orders of equal size, entered within {within_ms:,} ms: "
        "{share} % of what they dealt with each other",
        "账户 {low} 与 {high} 之间有 {count} 笔成交，双方申报数量相等、申报相隔不超过 {within_ms:,} 毫秒，"
        "占两者相互成交量的 {share}%",
    ),
    "value_transfer": (
        "account {loser} bought high from and sold low to account {winner}: {gain:cny} CNY on {matched:,} t, "
        "{gap:bp} % apart",
        "账户 {loser} 对账户 {winner} 高买低卖：{matched:,} 吨，价差 {gap:bp}%，转移 {gain:cny} 元",
    ),
    "layering_buy": (
        "account {account} cancelled {orders} buy orders of together {quantity:,} t within {seconds} s each, and sold "
        "meanwhile",
        "账户 {account} 撤销 {orders} 笔买入申报，共 {quantity:,} 吨，每笔存续不超过 {seconds} 秒，同时卖出成交",
    ),
    "layering_sell": (
        "account {account} cancelled {orders} sell orders of together {quantity:,} t within {seconds} s each, and "
        "bought meanwhile",
        "账户 {account} 撤销 {orders} 笔卖出申报，共 {quantity:,} 吨，每笔存续不超过 {seconds} 秒，同时买入成交",
    ),
    "buy_high_sell_low": (
        "account {account} bought {bought:,} t and sold {sold:,} t, on average {gap:bp} % lower",
        "账户 {account} 买入 {bought:,} 吨，卖出 {sold:,} 吨，卖出均价低 {gap:bp}%",
    ),
    "overselling": (
        "account {account} holds {left:,} t after sales of {sold:,} t and must surrender {need:,} t",
        "账户 {account} 卖出 {sold:,} 吨后持有 {left:,} 吨，应履约清缴 {need:,} 吨",
    ),
    "large_holder": (
        "account {account} holds {held:,} t of all vintages",
        "账户 {account} 各年度配额合计持有 {held:,} 吨",
    ),
    "concentration_bought": (
        "account {account} bought {quantity:,} t of {volume:,} t, {share} %",
        "账户 {account} 买入 {quantity:,} 吨，占成交量 {volume:,} 吨的 {share}%",
    ),
    "concentration_sold": (
        "account {account} sold {quantity:,} t of {volume:,} t, {share} %",
        "账户 {account} 卖出 {quantity:,} 吨，占成交量 {volume:,} 吨的 {share}%",
    ),
    "thin_close": (
        "{volume:,} t set a close that is {moved:bp} % away from the previous one",
        "仅 {volume:,} 吨成交形成的收盘价与前收盘价相差 {moved:bp}%",
    ),
    "marking_close": (
        "account {account} took {quantity:,} t, {share} % of the last {minutes} minutes: the close is {off:bp} % off "
        "what it would be without",
        "账户 {account} 主动成交 {quantity:,} 吨，占最后 {minutes} 分钟成交量的 {share}%：与剔除其成交后相比，"
        "收盘价相差 {off:bp}%",
    ),
    "marking_close_push": (
        "account {account} took {quantity:,} t, {share} % of the last {minutes} minutes: the close is {off:bp} % off "
        "what it would be at the price of the moment before",
        "账户 {account} 主动成交 {quantity:,} 吨，占最后 {minutes} 分钟成交量的 {share}%：与按此前价格成交相比，"
        "收盘价相差 {off:bp}%",
    ),
    "price_limit_upper": (
        "the price {price:price} is {ticks} ticks from the upper limit",
        "价格 {price:price} 距涨幅限制 {ticks} 个最小变动单位",
    ),
    "price_limit_lower": (
        "the price {price:price} is {ticks} ticks from the lower limit",
        "价格 {price:price} 距跌幅限制 {ticks} 个最小变动单位",
    ),
    "limit_push": (
        "the price reached its limit {limit:price} in {minutes} minutes; account {account} took {quantity:,} t, "
        "{share} % of it",
        "价格在 {minutes} 分钟内触及涨跌幅限制 {limit:price}，账户 {account} 主动成交 {quantity:,} 吨，占其中 {share}%",
    ),
    "price_move": (
        "{moved:bp} % in {minutes} minutes, {share} % of it taken by account {account}",
        "{minutes} 分钟内变动 {moved:bp}%，其中 {share}% 由账户 {account} 主动成交",
    ),
    "before_news_bought": (
        "account {account} bought {quantity:,} t of {volume:,} t in the {minutes} minutes before a notice",
        "公告前 {minutes} 分钟内，账户 {account} 在 {volume:,} 吨成交中净买入 {quantity:,} 吨",
    ),
    "before_news_sold": (
        "account {account} sold {quantity:,} t of {volume:,} t in the {minutes} minutes before a notice",
        "公告前 {minutes} 分钟内，账户 {account} 在 {volume:,} 吨成交中净卖出 {quantity:,} 吨",
    ),
    "off_market": (
        "{quantity:,} t at {price:price} while the listed price was {listed:price}: {away:bp} % away",
        "{quantity:,} 吨以 {price:price} 元成交，当时挂牌价 {listed:price} 元，相差 {away:bp}%",
    ),
    "agreed_transfer": (
        "account {loser} sold low to and bought high from account {winner}: {gain:cny} CNY on {matched:,} t, "
        "{gap:bp} % apart, bulk or auction deals among them",
        "账户 {loser} 对账户 {winner} 低卖高买：{matched:,} 吨，价差 {gap:bp}%，转移 {gain:cny} 元，"
        "其中有大宗或竞价成交",
    ),
    "ring_listed": (
        "at least {quantity:,} t went the way {way} in listed deals of {days} days at most",
        "至少 {quantity:,} 吨按 {way} 流转，均为挂牌成交，时间不超过 {days} 天",
    ),
    "ring_agreed": (
        "at least {quantity:,} t went the way {way} in bulk or auction deals of {days} days at most",
        "至少 {quantity:,} 吨按 {way} 流转，均为大宗或竞价成交，时间不超过 {days} 天",
    ),
    "ring_mixed": (
        "at least {quantity:,} t went the way {way} in listed and bulk or auction deals of {days} days at most",
        "至少 {quantity:,} 吨按 {way} 流转，兼有挂牌与大宗或竞价成交，时间不超过 {days} 天",
    ),
    "desk_withdrawals": (
        "account {account} withdrew {count} declarations of together {quantity:,} t within {seconds} s each",
        "账户 {account} 撤回 {count} 笔大宗申报，共 {quantity:,} 吨，每笔存续不超过 {seconds} 秒",
    ),
    "auction_cancelled": (
        "account {account} cancelled bids on {share} % of what auction {auction} offers",
        "账户 {account} 撤销的出价占第 {auction} 号竞价出让数量的 {share}%",
    ),
    "auction_linked": (
        "account {account}, of the seller {seller}'s group, won {quantity:,} t of {total:,} t",
        "账户 {account} 与出让方 {seller} 属同一集团，竞得 {total:,} 吨中的 {quantity:,} 吨",
    ),
    "auction_winner": (
        "account {account} won {quantity:,} t of {total:,} t, {share} %, of auction {auction}",
        "账户 {account} 在第 {auction} 号竞价的 {total:,} 吨中竞得 {quantity:,} 吨，占 {share}%",
    ),
}


class _Words(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        """The units of this market; everything else as Python does it."""
        if format_spec == "bp":
            return f"{value / 100:.2f}"
        if format_spec == "cny":
            return format_amount(value)
        if format_spec == "price":
            return format_price(value)
        return str(super().format_field(value, format_spec))


_WORDS: Final = _Words()


def sentence(code: str, facts: Facts, *, zh: bool = False) -> str:
    """The whole sentence. KeyError: no such code, or a figure is missing."""
    return _WORDS.vformat(SENTENCES[code][zh], (), facts)
