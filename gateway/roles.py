"""Who may send what: one table, checked on every message, default deny (guarantee 4).

A key has one role. ``kinds`` are the listed market's command kinds (engine.records), ``messages`` the
slow-lane commands, ``controls`` the control messages of the session layer beyond login and heartbeat, and
``queries`` the questions that are answered. The operator plane takes only roles with ``operator_plane``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine import messages as m
from engine.auction_messages import AUCTION_COMMANDS
from engine.bulk_messages import BULK_COMMANDS
from engine.records import CANCEL, MASS_CANCEL, MESSAGE, NEW, REDUCE, REPLACE, TAKE
from gateway import protocol as p

SESSION_CONTROLS: Final = frozenset({p.Login, p.Logout, p.Heartbeat, p.Retransmit})
MEMBER_QUERIES: Final = frozenset(
    {"open_orders", "balances", "desk", "negotiations", "auctions", "time", "snapshot", "instruments"}
)
OPERATOR_QUERIES: Final = MEMBER_QUERIES | {
    "status",
    "deals",
    "state_hash",
    "book",
    "sessions",
    "all_balances",
    "members",
    "accounts",
}


class Role(NamedTuple):
    """What a key of this role may do."""

    name: str
    operator_plane: bool
    kinds: frozenset[int]
    messages: frozenset[type]
    controls: frozenset[type]
    queries: frozenset[str]
    feed: bool  # may subscribe to market data


_TRADER_MESSAGES = frozenset(BULK_COMMANDS) | frozenset(AUCTION_COMMANDS) | {m.Withdraw, m.TransferOut}
# Halt, but not resume: where opening balances differ the registry stops the open, and an operator decides (R13.1).
_SETTLEMENT_MESSAGES = frozenset(
    {m.Deposit, m.TransferIn, m.TransferOut, m.TransferOutDone, m.Withdraw, m.SettleDay, m.SendStatement, m.Halt}
)

ROLES: Final[dict[str, Role]] = {
    role.name: role
    for role in (
        Role(
            "trader",
            False,
            frozenset({NEW, CANCEL, REDUCE, REPLACE, MASS_CANCEL, TAKE, MESSAGE}),
            _TRADER_MESSAGES,
            SESSION_CONTROLS | {p.DeadMan, p.Kill, p.Query},
            MEMBER_QUERIES,
            True,
        ),
        Role(
            "risk",
            False,
            frozenset({CANCEL, MASS_CANCEL}),
            frozenset(),
            SESSION_CONTROLS | {p.Kill, p.Query},
            MEMBER_QUERIES,
            True,
        ),
        Role("drop_copy", False, frozenset(), frozenset(), SESSION_CONTROLS | {p.Query}, MEMBER_QUERIES, True),
        Role(
            "market_data",
            False,
            frozenset(),
            frozenset(),
            SESSION_CONTROLS | {p.Query},
            frozenset({"snapshot", "time", "instruments"}),
            True,
        ),
        Role(
            "settlement",
            True,
            frozenset({MESSAGE}),
            _SETTLEMENT_MESSAGES,
            SESSION_CONTROLS | {p.Query, p.Subscribe},
            OPERATOR_QUERIES,
            True,
        ),
        Role(  # looks at everything, changes nothing: the monitor's own key
            "viewer", True, frozenset(), frozenset(), SESSION_CONTROLS | {p.Query, p.Subscribe}, OPERATOR_QUERIES, True
        ),
        Role(
            "operator",
            True,
            frozenset({MESSAGE}),
            frozenset(m.COMMANDS),
            SESSION_CONTROLS | {p.Query, p.Subscribe, p.StepClock, p.Confirm},
            OPERATOR_QUERIES,
            True,
        ),
    )
}


def kinds_mask(role: Role) -> int:
    """The allowed command kinds as bits, for a check in machine code."""
    mask = 0
    for kind in role.kinds:
        mask |= 1 << kind
    return mask
