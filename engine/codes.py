"""Reject codes and cancel reasons: one stable number each, with a text in English and Chinese.

Numbers are part of the protocol (docs/protocol.md): never reuse or renumber one. ``Code`` is what a
REJECTED event's ``reason`` holds, ``Reason`` what a CANCELLED event's holds. The kernel's checks run in
the order in which the codes 1 … 49 are listed here (the first that fails is the answer); nothing changes
on a reject. Codes of the session layer (200 …) are never journaled and consume no request number (D4).
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Why a command was refused. 1–99 listed market, 100–199 desk, auction, money, operators, 200– session."""

    OK = 0
    # listed market, in the order of the kernel's checks
    DUPLICATE_REQUEST = 1
    UNKNOWN_KIND = 2
    UNKNOWN_INSTRUMENT = 3
    UNKNOWN_ACCOUNT = 4
    STALE = 5
    MARKET_CLOSED = 6
    MARKET_BREAK = 7
    MARKET_HALTED = 8
    INSTRUMENT_HALTED = 9
    CANCEL_ONLY = 10
    ACCOUNT_SUSPENDED = 11
    ACCOUNT_CANCEL_ONLY = 12
    BAD_SIDE = 13
    BAD_ORDER_TYPE = 14
    WRONG_POLICY = 15
    ORDER_NOT_OPEN = 16
    OUT_OF_REACH = 17
    BAD_TICK = 18
    PRICE_ABOVE_LIMIT = 19
    PRICE_BELOW_LIMIT = 20
    QUANTITY_TOO_SMALL = 21
    QUANTITY_TOO_LARGE = 22
    BAD_LOT = 23
    AMOUNT_TOO_LARGE = 24
    POST_ONLY_WOULD_TRADE = 25
    SELF_TRADE = 26
    NOT_FILLABLE = 27
    OPEN_ORDERS_LIMIT = 28
    ORDER_POOL_FULL = 29
    INSUFFICIENT_CASH = 30
    BOUGHT_TODAY = 31
    INSUFFICIENT_ALLOWANCES = 32
    POSITION_LIMIT = 33
    SELL_CAP = 34
    # desk, auction, money, operators
    NOT_AUTHORISED = 100
    UNKNOWN_DECLARATION = 101
    UNKNOWN_THREAD = 102
    WRONG_STATE = 103
    NOT_ADDRESSED = 104
    BULK_CLOSED = 105
    BULK_FROZEN = 106
    BULK_QUANTITY_TOO_SMALL = 107
    BULK_PRICE_OUT_OF_BAND = 108
    BULK_TERMS_CHANGED = 109
    SELF_DEAL = 110
    LIMIT_REACHED = 111
    BAD_FIELD = 112
    UNKNOWN_AUCTION = 120
    AUCTION_CLOSED = 121
    AUCTION_PRICE_OUT_OF_BAND = 122
    AUCTION_QUANTITY = 123
    AUCTION_BID_UNKNOWN = 124
    INSUFFICIENT_WITHDRAWABLE = 130
    DUPLICATE_DOCUMENT = 131
    UNKNOWN_TRANSFER = 132
    ALREADY_EXISTS = 140
    WRONG_PHASE = 141
    TWO_PERSONS_REQUIRED = 142
    UNKNOWN_DEAL = 143
    NOT_REVERSIBLE = 144
    CAPACITY = 145
    # session layer: not journaled, no request number consumed
    MALFORMED = 200
    NOT_LOGGED_IN = 201
    REQUEST_GAP = 202
    REQUEST_MISMATCH = 203
    THROTTLED = 204
    WRONG_VERSION = 205
    WRONG_ACCOUNT = 206
    SESSION_IN_USE = 207
    AHEAD_OF_EXCHANGE = 208
    NOT_YET = 209
    ROLE_NOT_ALLOWED = 210
    TOO_LARGE = 211
    RESERVED_FIELD = 212
    SESSIONS_FULL = 213
    KILLED = 214
    SHUTTING_DOWN = 215


class Reason(IntEnum):
    """Why an open order ended without being filled."""

    BY_OWNER = 0
    IOC_REST = 1
    BEYOND_BEST_FIVE = 2  # R8.2: the rest would still cross
    SELF_TRADE = 3  # R8.5
    CLOSE = 4  # R5.3: lapsed at the close
    REDUCED_TO_ZERO = 5
    REPLACED_TO_FILLED = 6  # D11
    MASS_CANCEL = 7
    DISCONNECT = 8  # cancel-on-disconnect (D8)
    KILL_SWITCH = 9
    BY_OPERATOR = 10
    TAKEN_OUT = 11  # the rest of a take that found less than it asked for
    TURNOVER_LIMIT = 12  # the day's turnover of the vintage, or the seller's, would no longer fit into int64


TEXT_EN: dict[int, str] = {
    Code.OK: "accepted",
    Code.DUPLICATE_REQUEST: "request_no was already used in this session",
    Code.UNKNOWN_KIND: "kind is not a command",
    Code.UNKNOWN_INSTRUMENT: "instrument does not exist or is retired",
    Code.UNKNOWN_ACCOUNT: "account does not exist",
    Code.STALE: "the command's expiry time had passed when it was sequenced",
    Code.MARKET_CLOSED: "outside trading hours",
    Code.MARKET_BREAK: "midday break: only cancels and reduces",
    Code.MARKET_HALTED: "the market is halted: only cancels and reduces",
    Code.INSTRUMENT_HALTED: "the instrument is halted: only cancels and reduces",
    Code.CANCEL_ONLY: "the exchange is in cancel-only mode",
    Code.ACCOUNT_SUSPENDED: "the account is suspended",
    Code.ACCOUNT_CANCEL_ONLY: "the account may only cancel",
    Code.BAD_SIDE: "side must be 0 (buy) or 1 (sell)",
    Code.BAD_ORDER_TYPE: "order_type is not one of limit, ioc, fok, best_five, post_only",
    Code.WRONG_POLICY: "the command does not fit the instrument's matching policy",
    Code.ORDER_NOT_OPEN: "order_id is not an open order of this account",
    Code.OUT_OF_REACH: "the listing is beyond the levels that may be reached",
    Code.BAD_TICK: "price is not a multiple of the tick",
    Code.PRICE_ABOVE_LIMIT: "price is above the day's upper limit",
    Code.PRICE_BELOW_LIMIT: "price is below the day's lower limit",
    Code.QUANTITY_TOO_SMALL: "quantity is below the minimum of one order",
    Code.QUANTITY_TOO_LARGE: "quantity is above the maximum of one listed order",
    Code.BAD_LOT: "quantity is not a multiple of the lot",
    Code.AMOUNT_TOO_LARGE: "price x quantity exceeds what the exchange can represent",
    Code.POST_ONLY_WOULD_TRADE: "a post-only order would trade at once",
    Code.SELF_TRADE: "the order would trade with the same account",
    Code.NOT_FILLABLE: "fill-or-kill cannot be filled in full within reach",
    Code.OPEN_ORDERS_LIMIT: "the account has as many open orders as it may have",
    Code.ORDER_POOL_FULL: "the exchange holds as many orders as it can",
    Code.INSUFFICIENT_CASH: "available cash does not cover amount and fee",
    Code.BOUGHT_TODAY: "allowances bought today cannot be sold today (T+1)",
    Code.INSUFFICIENT_ALLOWANCES: "sellable allowances do not cover the quantity",
    Code.POSITION_LIMIT: "the account's maximum holding would be exceeded",
    Code.SELL_CAP: "the account's sell cap would be exceeded",
    Code.NOT_AUTHORISED: "this key may not do that",
    Code.UNKNOWN_DECLARATION: "declaration does not exist or is not addressed to this account",
    Code.UNKNOWN_THREAD: "dialogue does not exist or is not this account's",
    Code.WRONG_STATE: "not possible in the present state",
    Code.NOT_ADDRESSED: "the declaration is not addressed to this account",
    Code.BULK_CLOSED: "outside bulk hours",
    Code.BULK_FROZEN: "frozen by the operator or a halt",
    Code.BULK_QUANTITY_TOO_SMALL: "quantity is below the bulk minimum",
    Code.BULK_PRICE_OUT_OF_BAND: "price is outside the bulk band",
    Code.BULK_TERMS_CHANGED: "the terms named are not the terms on the table",
    Code.SELF_DEAL: "an account cannot deal with itself",
    Code.LIMIT_REACHED: "as many are open as may be",
    Code.BAD_FIELD: "a field's value is not allowed",
    Code.UNKNOWN_AUCTION: "auction does not exist",
    Code.AUCTION_CLOSED: "the auction takes no bids now",
    Code.AUCTION_PRICE_OUT_OF_BAND: "bid price is outside reserve and cap",
    Code.AUCTION_QUANTITY: "quantity is outside what the auction allows",
    Code.AUCTION_BID_UNKNOWN: "bid does not exist or is not this account's",
    Code.INSUFFICIENT_WITHDRAWABLE: "withdrawable cash does not cover the amount",
    Code.DUPLICATE_DOCUMENT: "the document number was already used",
    Code.UNKNOWN_TRANSFER: "transfer does not exist",
    Code.ALREADY_EXISTS: "already exists",
    Code.WRONG_PHASE: "not possible in this phase of the day",
    Code.TWO_PERSONS_REQUIRED: "a second person must confirm",
    Code.UNKNOWN_DEAL: "deal does not exist",
    Code.NOT_REVERSIBLE: "a side can no longer give back what it got",
    Code.CAPACITY: "the exchange holds as many as it can",
    Code.MALFORMED: "the message cannot be read",
    Code.NOT_LOGGED_IN: "log in first",
    Code.REQUEST_GAP: "request_no is not the next one; not applied",
    Code.REQUEST_MISMATCH: "request_no was used with other content",
    Code.THROTTLED: "too many messages; wait and try again",
    Code.WRONG_VERSION: "protocol version is not supported",
    Code.WRONG_ACCOUNT: "the key does not belong to this account",
    Code.SESSION_IN_USE: "the session is in use by another key",
    Code.AHEAD_OF_EXCHANGE: "the client has seen more reports than the exchange has: call the operator",
    Code.NOT_YET: "being rebuilt: ask again",
    Code.ROLE_NOT_ALLOWED: "the key's role does not allow this message",
    Code.TOO_LARGE: "the message is larger than allowed",
    Code.RESERVED_FIELD: "seq, time_ns and account must be zero",
    Code.SESSIONS_FULL: "as many sessions are logged in as the exchange takes",
    Code.KILLED: "the kill switch is on: only an operator can switch it off",
    Code.SHUTTING_DOWN: "the exchange is shutting down",
}

TEXT_ZH: dict[int, str] = {
    Code.OK: "已接受",
    Code.DUPLICATE_REQUEST: "请求编号在本会话中已使用",
    Code.UNKNOWN_KIND: "未知指令类型",
    Code.UNKNOWN_INSTRUMENT: "交易产品不存在或已退市",
    Code.UNKNOWN_ACCOUNT: "交易账户不存在",
    Code.STALE: "指令到达时已过有效时间",
    Code.MARKET_CLOSED: "非交易时间",
    Code.MARKET_BREAK: "午间休市，仅可撤单或减量",
    Code.MARKET_HALTED: "市场暂停交易，仅可撤单或减量",
    Code.INSTRUMENT_HALTED: "该产品暂停交易，仅可撤单或减量",
    Code.CANCEL_ONLY: "系统处于仅撤单状态",
    Code.ACCOUNT_SUSPENDED: "账户已被暂停",
    Code.ACCOUNT_CANCEL_ONLY: "账户仅可撤单",
    Code.BAD_SIDE: "买卖方向错误",
    Code.BAD_ORDER_TYPE: "订单类型错误",
    Code.WRONG_POLICY: "指令与该产品的成交方式不符",
    Code.ORDER_NOT_OPEN: "该账户没有此有效申报",
    Code.OUT_OF_REACH: "该挂牌超出可成交档位",
    Code.BAD_TICK: "价格不符合最小变动单位",
    Code.PRICE_ABOVE_LIMIT: "价格高于涨幅限制",
    Code.PRICE_BELOW_LIMIT: "价格低于跌幅限制",
    Code.QUANTITY_TOO_SMALL: "数量低于单笔下限",
    Code.QUANTITY_TOO_LARGE: "数量超过挂牌协议单笔上限",
    Code.BAD_LOT: "数量不是最小单位的整数倍",
    Code.AMOUNT_TOO_LARGE: "金额超出系统可表示范围",
    Code.POST_ONLY_WOULD_TRADE: "只挂单申报将立即成交",
    Code.SELF_TRADE: "不得与自己成交",
    Code.NOT_FILLABLE: "可成交范围内不能全部成交",
    Code.OPEN_ORDERS_LIMIT: "账户有效申报笔数已达上限",
    Code.ORDER_POOL_FULL: "系统申报容量已满",
    Code.INSUFFICIENT_CASH: "可用资金不足",
    Code.BOUGHT_TODAY: "当日买入的配额当日不得卖出",
    Code.INSUFFICIENT_ALLOWANCES: "可卖配额不足",
    Code.POSITION_LIMIT: "超过最大持仓量",
    Code.SELL_CAP: "超过卖出上限",
    Code.NOT_AUTHORISED: "无此权限",
    Code.UNKNOWN_DECLARATION: "申报不存在或未向本账户发出",
    Code.UNKNOWN_THREAD: "对话不存在或不属于本账户",
    Code.WRONG_STATE: "当前状态不允许此操作",
    Code.NOT_ADDRESSED: "申报未向本账户发出",
    Code.BULK_CLOSED: "非大宗协议交易时间",
    Code.BULK_FROZEN: "已被冻结",
    Code.BULK_QUANTITY_TOO_SMALL: "数量低于大宗协议下限",
    Code.BULK_PRICE_OUT_OF_BAND: "价格超出大宗协议涨跌幅",
    Code.BULK_TERMS_CHANGED: "条款已变更",
    Code.SELF_DEAL: "不得与自己成交",
    Code.LIMIT_REACHED: "已达数量上限",
    Code.BAD_FIELD: "字段取值不允许",
    Code.UNKNOWN_AUCTION: "竞价不存在",
    Code.AUCTION_CLOSED: "竞价当前不接受申报",
    Code.AUCTION_PRICE_OUT_OF_BAND: "申报价格超出底价与最高价范围",
    Code.AUCTION_QUANTITY: "申报数量不符合竞价要求",
    Code.AUCTION_BID_UNKNOWN: "竞价申报不存在或不属于本账户",
    Code.INSUFFICIENT_WITHDRAWABLE: "可取资金不足",
    Code.DUPLICATE_DOCUMENT: "凭证编号已使用",
    Code.UNKNOWN_TRANSFER: "划转不存在",
    Code.ALREADY_EXISTS: "已存在",
    Code.WRONG_PHASE: "当前阶段不允许此操作",
    Code.TWO_PERSONS_REQUIRED: "需双人复核",
    Code.UNKNOWN_DEAL: "成交不存在",
    Code.NOT_REVERSIBLE: "一方已无法返还",
    Code.CAPACITY: "系统容量已满",
    Code.MALFORMED: "报文无法解析",
    Code.NOT_LOGGED_IN: "请先登录",
    Code.REQUEST_GAP: "请求编号不连续，未执行",
    Code.REQUEST_MISMATCH: "请求编号已用于其他内容",
    Code.THROTTLED: "请求过于频繁",
    Code.WRONG_VERSION: "协议版本不支持",
    Code.WRONG_ACCOUNT: "密钥与账户不符",
    Code.SESSION_IN_USE: "会话正被其他密钥使用",
    Code.AHEAD_OF_EXCHANGE: "客户端回报序号超前，请联系运营人员",
    Code.NOT_YET: "正在重建，请稍后再试",
    Code.ROLE_NOT_ALLOWED: "该角色不允许此报文",
    Code.TOO_LARGE: "报文过大",
    Code.RESERVED_FIELD: "保留字段必须为零",
    Code.SESSIONS_FULL: "登录会话数已满",
    Code.KILLED: "已触发熔断开关，仅运营人员可恢复",
    Code.SHUTTING_DOWN: "系统正在关闭",
}

REASON_EN: dict[int, str] = {
    Reason.BY_OWNER: "cancelled by its owner",
    Reason.IOC_REST: "rest of an immediate order",
    Reason.BEYOND_BEST_FIVE: "the rest would cross beyond the best five levels",
    Reason.SELF_TRADE: "would trade with the same account",
    Reason.CLOSE: "lapsed at the close",
    Reason.REDUCED_TO_ZERO: "reduced to nothing",
    Reason.REPLACED_TO_FILLED: "replaced at or below what is filled",
    Reason.MASS_CANCEL: "mass cancel",
    Reason.DISCONNECT: "cancel on disconnect",
    Reason.KILL_SWITCH: "kill switch",
    Reason.BY_OPERATOR: "cancelled by the operator",
    Reason.TAKEN_OUT: "the listing held less than was asked for",
    Reason.TURNOVER_LIMIT: "the day's turnover has reached what can be counted",
}

REASON_ZH: dict[int, str] = {
    Reason.BY_OWNER: "已撤单",
    Reason.IOC_REST: "即时成交剩余撤销",
    Reason.BEYOND_BEST_FIVE: "超出最优五档，剩余撤销",
    Reason.SELF_TRADE: "防止自成交撤销",
    Reason.CLOSE: "收市失效（系统撤单）",
    Reason.REDUCED_TO_ZERO: "减量至零",
    Reason.REPLACED_TO_FILLED: "改单后数量不高于已成交量",
    Reason.MASS_CANCEL: "批量撤单",
    Reason.DISCONNECT: "断线撤单",
    Reason.KILL_SWITCH: "熔断撤单",
    Reason.BY_OPERATOR: "系统撤单",
    Reason.TAKEN_OUT: "挂牌数量不足，剩余撤销",
    Reason.TURNOVER_LIMIT: "当日成交额已达计数上限，剩余撤销",
}
