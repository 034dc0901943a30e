"""What an operator has to look at now, out of the picture: nothing where the market is well.

The limits are those of the alert rules (docs/operations/alerts.yml), so that page and pager say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.monitor.picture import NEAR_PERCENT, Picture
from settlement.progress import Step

DISK_LEFT_MIN: Final = 4 << 30  # bytes: CeaDiskLow
REPORTS_WAIT_MAX: Final = 10_000  # of one session: CeaReportsWait
LOST_SHARE_MAX: Final = 0.2  # of the sessions: CeaSessionsLost
CALENDAR_DAYS_MIN: Final = 20  # CeaCalendarEnds
TRADING: Final = ("morning", "afternoon")  # in the evening members go home


class Concern(NamedTuple):
    """``word``: its key of WORDS; ``detail``: how many, or which; ``tab`` has more of it; ``grave``: at once."""

    word: str
    detail: str
    tab: str
    grave: bool = False


def concerns(p: Picture) -> list[Concern]:
    """What is not as on a quiet day, the grave first."""
    return sorted(_concerns(p), key=lambda c: not c.grave) if p.status else []


def _concerns(p: Picture) -> Iterator[Concern]:
    s, health = p.status, p.health
    if s["halted"]:
        yield Concern("market_halted", "", "controls", grave=True)
    if s["cancel_only"]:
        yield Concern("cancel_only", "", "controls", grave=True)
    if halted := [code for code, row in s["instruments"].items() if row["halted"] and row["listed"]]:
        yield Concern("vintages_halted", ", ".join(halted), "controls")
    if lost := sum(session["state"] == "lost" for session in p.sessions):
        many = lost > LOST_SHARE_MAX * (s["logged_in"] + 1)
        yield Concern("sessions_lost", str(lost), "members", grave=many and s["phase"] in TRADING)
    if near := sum(member.near >= NEAR_PERCENT for member in list(p.members.values())):
        yield Concern("accounts_near", str(near), "members")
    yield from _settlement(p)
    if s["alarms"]:
        yield Concern("alarms", str(len(s["alarms"])), "health")
    if not health:
        yield Concern("no_metrics", "", "health")
    else:
        yield from _metrics(health)
    if unseen := sum(alert.name not in p.acknowledged for alert in list(p.alerts)):
        yield Concern("unseen_alerts", str(unseen), "alerts")
    if s["proposals"]:
        yield Concern("proposals", str(len(s["proposals"])), "controls")


def _settlement(p: Picture) -> Iterator[Concern]:
    progress, s = p.settlement, p.status
    if progress is not None:
        if progress.differences:
            yield Concern("different", str(len(progress.differences)), "settlement", grave=True)
        if progress.held:
            yield Concern("held_deals", str(progress.held), "settlement", grave=True)
        if progress.step in (Step.STOPPED, Step.UNREACHABLE):
            yield Concern("settlement_stands", "", "settlement", grave=True)
    if s["day_closed"] and not s["settled"]:
        yield Concern("not_settled", "", "settlement")


def _metrics(health: dict[str, float]) -> Iterator[Concern]:
    if problems := int(health.get("cea_verify_problems", 0)):
        yield Concern("verify_problems", str(problems), "health", grave=True)
    if health.get("cea_disk_free_bytes", DISK_LEFT_MIN) < DISK_LEFT_MIN:
        yield Concern("disk_low", "", "health", grave=True)
    if (waiting := int(health.get("cea_unsent_reports_worst", 0))) > REPORTS_WAIT_MAX:
        yield Concern("unsent_worst", f"{waiting:,}", "members")
    if (days := int(health.get("cea_calendar_days_left", CALENDAR_DAYS_MIN))) < CALENDAR_DAYS_MIN:
        yield Concern("calendar_left", str(days), "health")
