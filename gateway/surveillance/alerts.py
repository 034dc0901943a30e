"""What a detector says: who, what, how strong, and the evidence that a person can check."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from gateway.surveillance.sentences import Facts, sentence

# Kinds of alerts: stable names, English and Chinese words for screens.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "wash": ("reverse trades of one pair", "固定账户反向交易"),
    "prearranged": ("pre-arranged deals", "约定交易"),
    "value_transfer": ("bought high, sold low, same pair", "高买低卖（对手固定）"),
    "buy_high_sell_low": ("bought high, sold low", "高买低卖"),
    "layering": ("orders placed and cancelled", "频繁申报撤单"),
    "marking_close": ("late deals that move the close", "尾市影响收盘价"),
    "thin_close": ("a tiny volume sets the close", "极小成交量影响收盘价"),
    "concentration": ("one account has most of a side", "成交集中"),
    "large_holder": ("large holding", "大户持仓"),
    "price_limit": ("price at its limit", "价格触及涨跌幅限制"),
    "price_move": ("fast price move", "价格异动"),
    "before_news": ("one-way trading before news", "信息发布前单向交易"),
    "overselling": ("sold what it needs for surrender", "超卖履约所需配额"),
    "ring": ("allowances go round a ring of accounts", "多账户环形交易"),
    "agreed_transfer": ("bulk or auction: bought high, sold low, same pair", "大宗或竞价高买低卖（对手固定）"),
    "desk_withdrawals": ("declarations made and soon withdrawn", "频繁申报撤回大宗"),
    "auction_linked": ("a linked account won the seller's auction", "出让方关联账户竞得"),
    "auction_cancelled": ("auction bids cancelled", "竞价大量撤单"),
    "limit_push": ("one account brings the price to its limit", "单一账户推动价格触及涨跌幅限制"),
    "off_market": ("bulk deal far from the listed price", "大宗价格偏离挂牌价"),
    "auction_winner": ("one account won most of an auction", "竞价成交集中"),
}
STEPS_MAX: Final = 1_000  # commands that the replay link shows one by one
EVIDENCE_MAX: Final = 100  # orders and deals named in one alert; the replay link has the rest


class Finding(NamedTuple):
    """What a detector found, before its evidence is written down: an :class:`Alert`'s fields of the same names, but
    ``instrument`` is the number (-1: none)."""

    kind: str
    time_ns: int
    instrument: int
    accounts: tuple[int, ...]
    score: int
    limit: int
    unit: str
    sentence: str
    facts: Facts


class Alert(msgspec.Struct, frozen=True):
    """One finding. ``score`` is the measure that crossed its threshold, ``limit`` that threshold, ``unit`` of both;
    ``sentence`` and ``facts``: what it says, as :mod:`gateway.surveillance.sentences` puts it into words.

    ``deals`` are the day's deal numbers, ``orders`` order ids; ``first_seq`` … ``last_seq`` is the part of the
    journal to replay, which :attr:`replay` says as a command.
    """

    kind: str
    date: int
    time_ns: int
    instrument: str
    accounts: tuple[int, ...]
    score: int
    limit: int
    unit: str
    sentence: str
    facts: Facts
    first_seq: int
    last_seq: int
    deals: tuple[int, ...] = ()
    orders: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What was seen, in English."""
        return sentence(self.sentence, self.facts)

    @property
    def text_zh(self) -> str:
        """What was seen, in Chinese."""
        return sentence(self.sentence, self.facts, zh=True)

    @property
    def replay(self) -> str:
        """The command that shows the state just before the evidence begins."""
        steps = min(self.last_seq - self.first_seq + 1, STEPS_MAX)
        return f"cea replay journal MARKET --at {max(self.first_seq - 1, 1)} --step {steps}"

    @property
    def name(self) -> str:
        """Equal for equal findings, whoever computes it and in however many pieces the stream came."""
        accounts = "-".join(map(str, self.accounts))
        return f"{self.date}-{self.kind}-{self.instrument}-{accounts}-{self.last_seq}"
