"""Publishing how far a settlement is (settlement.progress), and the standing settlement service: `cea settle --watch`.

The service is the registry institution's side of a day, without a person: it completes members' transfers out and
withdrawals as the exchange tells them (D23, D24), settles after the close, checks every balance in the morning, and
halts the market where they differ (R13.1). It keeps nothing of its own: every step can be repeated, so it may be
killed and started at any time. Decisions (D26) stay with people: it says on what, and looks again.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cea.output import Exit, fail

if TYPE_CHECKING:
    from gateway.operator import OperatorClient
    from settlement.bridge import Bridge
    from settlement.progress import Progress
    from settlement.registry import Registry

LOG: Final = logging.getLogger("cea.settle")
LOOK_S: Final = 1.0  # how often the exchange is asked what time it is there
# What waits for a person is looked at again so often; settling again is cheap, but not free (it reconciles).
AGAIN_S: Final = 30.0
ANSWER_S: Final = 60.0  # all balances of a market with thousands of accounts are several pages


def publish(folder: Path, progress: Progress, *, service: bool = False) -> None:
    """Writes the market folder's file, with the machine's time and this process."""
    from msgspec.structs import replace

    from settlement.progress import write

    write(folder, replace(progress, time_ns=time.time_ns(), pid=os.getpid(), service=service))


SERVICE_KEY: Final = "settlement-service"


def service_key(folder: Path) -> str:
    """The service's own key; in a market folder from before there was one, the registry's."""
    from cea.connecting import key_file

    own = key_file(folder, SERVICE_KEY)
    return own if Path(own).is_file() else key_file(folder, "settlement")


class NoBank:
    """The bank port of a service: whether the bank has paid is a person's word (`cea registry withdraw --paid`)."""

    def pay(self, account: int, amount_fen: int, document: str) -> None:
        """Not known yet."""


class Service:
    """One look after the other at an exchange, and what is due then. Holds no state that a restart would miss."""

    def __init__(self, folder: Path, registry: Registry, client: OperatorClient) -> None:
        from cea.remote_exchange import RemoteExchange
        from settlement.bridge import Bridge

        self.folder, self.client = folder, client
        self.now: dict[str, Any] = client.time()
        self.bridge: Bridge = Bridge(
            registry, RemoteExchange(client), lambda: int(self.now["time_ns"]), NoBank(), publish=self.publish
        )
        self._checked = 0  # the date whose opening balances were found equal
        self._halted = 0  # the date that was halted: resuming it is an operator's decision, and stands
        self._again_at = 0.0  # monotonic time before which nothing is tried again
        self.shown: Progress | None = None
        client.subscribe()
        self.bridge.resume()

    def publish(self, progress: Progress) -> None:
        """Writes the progress file where something has changed."""
        if progress != self.shown:
            self.shown = progress
            publish(self.folder, progress, service=True)

    def look(self) -> None:
        """Does what is due. Raises GatewayError where the exchange does not answer; the next look goes on."""
        self.now = self.client.time()
        for report in self.client.events():
            if report.notice is not None:
                self._hear(int(report.event["account"]), report.notice)
        date = int(self.now["date"])
        if self.now["day_closed"]:
            if not self.now["settled"]:
                self._settle(date)
        elif self._checked != date and self.now["time_ns"] < self.now["boundaries"][0]:
            self._check_open(date)  # only before the open: then the two sides differ by no deal

    def _hear(self, account: int, notice: dict[str, Any]) -> None:
        """A member's own transfer out (D24) or withdrawal (D23). What was done before is found done."""
        if notice["t"] == "allowances_moved" and notice["state"] == "out_requested":
            code, tonnes, document = notice["instrument"], -notice["quantity"], notice["transfer"]
            if self.bridge.asked_here(document):
                return
            self._say(f"transfer out {document}", self.bridge.move_out(account, code, tonnes, document))
        elif notice["t"] == "cash_moved" and notice["amount"] < 0:
            document = notice["document"]
            if self.bridge.asked_here(document):
                return
            self._say(f"withdrawal {document}", self.bridge.withdraw(account, -notice["amount"], document))

    @staticmethod
    def _say(what: str, result: Any) -> None:
        from settlement.errors import Refused

        if isinstance(result, Refused):
            LOG.warning("%s: refused: %s", what, result)
        elif result is None:
            LOG.info("%s: reserved, waits for the bank", what)
        elif not result.repeated:
            LOG.info("%s: posted", what)

    def _may_try(self) -> bool:
        if time.monotonic() < self._again_at:
            return False
        self._again_at = time.monotonic() + AGAIN_S
        return True

    def _settle(self, date: int) -> None:
        if not self._may_try():
            return
        from settlement.errors import Refused

        ended = self.bridge.end_of_day(date, statements=self.folder / "reports" / "statements")
        if isinstance(ended, Refused):
            self._stop(date, str(ended))
            return
        if ended.may_open_next:
            self._again_at = 0.0
            LOG.info("%s: %s, %s deals delivered against payment", date, ended.day.state, f"{ended.summary.deals:,}")
        elif self.shown is not None:
            LOG.warning("%s: %s: %s", date, ended.day.state, self.shown.text)

    def _check_open(self, date: int) -> None:
        """The morning's check; where balances differ the market is halted until an operator resumes it."""
        from settlement.errors import Refused
        from settlement.progress import LISTED_MAX, Progress, Step

        if not self._may_try():
            return
        self.publish(Progress(date=date, step=Step.CHECK_OPEN))
        found = self.bridge.check_open(date)
        if isinstance(found, Refused) and found.field == "exchange":
            LOG.warning("%s: %s", date, found)  # it has not answered everything: looked at again
        elif isinstance(found, Refused):
            self._halt(date, str(found))
        elif found and not self.bridge.was_released(date):
            self._halt(date, f"registry and exchange differ in {len(found)} balances, {found[0]}")
            texts = tuple(str(difference) for difference in found[:LISTED_MAX])
            self.publish(Progress(date=date, step=Step.STOPPED, text="cea registry check-open", differences=texts))
        else:
            self._checked, self._again_at = date, 0.0
            self.publish(Progress(date=date, step=Step.MAY_OPEN))
            LOG.info("%s: the exchange's accounts are the registry's balances", date)

    def _halt(self, date: int, why: str) -> None:
        from engine.messages import Halt
        from gateway.client import Refusal

        self._stop(date, why)
        if self._halted == date:
            return
        self._halted = date
        try:
            self.client.execute(Halt(by="settlement", why=f"opening balances: {why}"[:200]))
        except Refusal:
            LOG.debug("the market is halted already")

    def _stop(self, date: int, why: str) -> None:
        from settlement.progress import Progress, Step

        LOG.warning("%s: %s", date, why)
        self.publish(Progress(date=date, step=Step.STOPPED, text=why))


def watch(folder: Path, stopped: Callable[[float], bool]) -> None:
    """Serves until ``stopped(seconds)``, which waits that long at most, says so. Who does not answer is asked again."""
    from sqlalchemy.exc import SQLAlchemyError

    from cea.folder import open_registry
    from cea.replaying import load_market
    from gateway.client import GatewayError, LoggedOut
    from gateway.operator import OperatorClient
    from settlement.progress import Progress, Step

    registry = open_registry(load_market(folder), hours=True)
    gc.collect()
    gc.freeze()  # a full look at everything that was imported takes 60 ms of whichever statement it would hit
    away = ""
    try:
        while not stopped(0):
            try:
                with OperatorClient(folder, key=service_key(folder), timeout=ANSWER_S) as client:
                    service, away = Service(folder, registry, client), ""
                    LOG.info("watching %s", folder)
                    while not stopped(LOOK_S):
                        service.look()
            except LoggedOut as error:  # by another one of us, or an operator: to come back would throw that one out
                fail(f"{error}: only one service settles a market", Exit.CONFIG)
            except (GatewayError, SQLAlchemyError, OSError) as error:
                if str(error) != away:
                    away = str(error)
                    LOG.warning("no answer, trying again: %s", away.splitlines()[0])
                    publish(folder, Progress(step=Step.UNREACHABLE, text=away.splitlines()[0]), service=True)
                if stopped(LOOK_S):
                    return
    finally:
        registry.close()


def watch_command(folder: Path) -> None:
    """`cea settle --watch`: until SIGTERM or Ctrl-C, which end it between two looks."""
    import signal
    import threading

    from cea.connecting import chosen_key

    chosen_key(folder, service_key(folder))  # ends here, with its reason, where there is no market
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch(folder, stop.wait)
    LOG.info("stopped")
