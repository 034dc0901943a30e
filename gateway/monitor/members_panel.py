"""Members: sessions and how far away they are, accounts with what is near a limit, refusals."""

from __future__ import annotations

from typing import Any, Final

from nicegui import ui

from engine.prices import format_amount
from gateway.monitor.panel import Panel
from gateway.monitor.picture import NEAR_PERCENT, Member

ROWS_SHOWN: Final = 100  # what matters first; the others are found by typing
NEVER_APART: Final = "\u00a0"  # no line ends between a vintage and its tonnes
STATES: Final = ("", "active", "account_cancel_only", "suspended")


class MembersPanel(Panel):
    """Sessions, accounts, refusals by code."""

    def build(self) -> None:
        """Three tables, and a line to look for an account."""
        self.looked_for = ui.input(self.w("look_for")).props('clearable dense for="field-look-for"').classes("w-72")
        with ui.row().classes("w-full gap-3 items-stretch"):
            accounts = ("account", "member_name", "state", "available", "locked", "orders", "refused", "near_limits",
                        "holdings")  # fmt: skip
            self.table("accounts", accounts, key="account", broad=True)
        with ui.row().classes("w-full gap-3 items-stretch"):
            sessions = ("number", "key_name", "account", "role", "state", "round_trip", "requests", "unsent",
                        "throttled", "malformed")  # fmt: skip
            self.table("sessions", sessions, key="number", broad=True)
        with ui.row().classes("w-full gap-3 items-stretch"):
            self.table("rejects", ("number", "text", "count"))

    def fill(self, status: dict[str, Any]) -> None:
        """Whoever is near a limit, was refused, or has orders comes first."""
        refused = self.picture.rejects_of
        words = (self.looked_for.value or "").strip().lower()
        members = [
            m for m in list(self.picture.members.values()) if not words or words in f"{m.account} {m.name}".lower()
        ]
        members.sort(key=lambda m: (m.near < NEAR_PERCENT, -refused.get(m.account, 0), -m.open_orders, m.account))
        self.rows("accounts", [self._account_row(m, refused.get(m.account, 0)) for m in members[:ROWS_SHOWN]])
        self.rows(
            "sessions",
            [
                {"number": x["session"], "key_name": x["name"], "account": _account(x["account"]),
                 "role": self.w(x["role"]), "state": self.w(f"session_{x['state']}"),
                 "round_trip": _milliseconds(x["round_trip_us"]),
                 "requests": f"{x['next_request'] - 1:,}", "unsent": f"{x['unsent']:,}",
                 "throttled": f"{x['throttled']:,}", "malformed": f"{x['malformed']:,}"}
                for x in sorted(self.picture.sessions, key=lambda x: (-x["throttled"], -x["malformed"], x["session"]))
                if not words or words in f"{x['account']} {x['name']}".lower()
            ][:ROWS_SHOWN],
        )  # fmt: skip
        self.rows("rejects", self.picture.reject_rows(self.view.language))

    def _account_row(self, m: Member, refused: int) -> dict[str, Any]:
        near = (
            f"{'▲ ' if limit == 0 or 100 * used >= NEAR_PERCENT * limit else ''}{code} {self.w(f'near_{kind}')} "
            f"{used:,} / {limit:,} {self.w('t')}"
            for code, kind, used, limit in m.limits
        )
        return {
            "account": m.account,
            "member_name": m.name,
            "state": self.w(STATES[m.status]),
            "available": format_amount(m.available),
            "locked": format_amount(m.locked),
            "orders": m.open_orders,
            "refused": refused,
            "holdings": " · ".join(f"{code}{NEVER_APART}{tonnes:,}" for code, tonnes in m.holdings),
            "near_limits": " · ".join(near),
        }


def _account(number: int) -> str:
    return str(number) if number < 1 << 31 else "–"


def _milliseconds(us: int) -> str:
    """Round trip in ms with a decimal; a dash where it is not known (yet)."""
    return f"{us // 1_000}.{us // 100 % 10} ms" if us else "–"
