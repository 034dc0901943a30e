"""What time makes due, on monotonic time (D3): heartbeats, silence, disconnects, dead-man switches, slow sockets."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.codes import Code
from gateway import protocol as p
from gateway.hot import due_sessions
from gateway.login import Logins
from gateway.session import NS_PER_MS, Event, State

TICK_NS: Final = 100 * NS_PER_MS  # how often time-outs are looked at: well below the shortest heartbeat
BEHIND_LOST_NS: Final = 30_000 * NS_PER_MS  # a socket that takes nothing for so long is logged out


class TimeOuts(Logins):
    """Deadlines of sessions."""

    _next_tick_ns: int = 0

    def tick(self, mono_ns: int) -> None:
        """Heartbeats, silence, cancel-on-disconnect, dead-man switches; all on monotonic time (D3)."""
        self.mono_ns = mono_ns
        if mono_ns < self._next_tick_ns:
            return
        self._next_tick_ns = mono_ns + TICK_NS
        time_ns = self.clock.now()
        heartbeat = p.encode(p.Heartbeat(time_ns=time_ns))
        due = due_sessions(self.hot, self._numbers[: len(self.sessions)], mono_ns)
        for number in self.beat(due, heartbeat, time_ns).tolist():
            session = self.sessions[number]
            if session.cancel_due_ns and mono_ns >= session.cancel_due_ns:
                self._transit(session, Event.DUE)
            if session.state is State.OUT:
                continue
            if session.dead_man_ms >= 0 and mono_ns >= session.dead_man_due_ns:
                session.dead_man_ms = -1
                self._refresh(session)
                self.cancel_session(session, "dead-man switch")
            if session.state is State.LOST:
                continue
            if mono_ns - session.last_heard_ns > session.heartbeat_ns * p.HEARTBEATS_LOST:
                self.counters.timeouts += 1
                self._transit(session, Event.SILENCE)
            elif session.behind_since_ns and mono_ns - session.behind_since_ns > BEHIND_LOST_NS:
                self._transit(session, Event.END, Code.TOO_LARGE, "its connection takes no reports")
            elif mono_ns - min(session.last_sent_ns, session.ping_ns) >= session.heartbeat_ns:
                session.last_sent_ns = session.ping_ns = mono_ns
                session.ping_time_ns = time_ns
                self.send(self._plane(session), session.route, heartbeat)
        self.flush()

    def stood_still(self, gap_ns: int) -> None:
        """The process did nothing for so long (stopped, or kept busy): that was no member's silence (D8).

        What members sent meanwhile still waits to be read. Each deadline moves as if it had been set that much later,
        but not after now.
        """
        now = self.mono_ns
        for session in self.sessions.values():
            session.last_heard_ns = min(session.last_heard_ns + gap_ns, now)
            if session.behind_since_ns:
                session.behind_since_ns = min(session.behind_since_ns + gap_ns, now)
            if session.dead_man_ms >= 0:
                armed_now = now + session.dead_man_ms * NS_PER_MS
                session.dead_man_due_ns = min(session.dead_man_due_ns + gap_ns, armed_now)
            if session.cancel_due_ns:
                session.cancel_due_ns = min(session.cancel_due_ns + gap_ns, now + session.cancel_ms * NS_PER_MS)

    def beat(self, due: np.ndarray, heartbeat: bytes, time_ns: int) -> np.ndarray:
        """Those of ``due`` (session numbers) that need more than a heartbeat; the hot lane sends it to the others."""
        return due
