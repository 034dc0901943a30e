"""PostgreSQL with a synchronous standby: the primary is killed under load, the standby promoted, nothing that was
confirmed is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from registry_world import (
    DAY,
    NOON,
    PostgresServer,
    _as_user,
    confirmed,
    expected_balances,
    new_database,
    new_folder,
    postgres_bin,
    serve_on_a_free_port,
    small_world,
    some_deals,
    start_postgres,
    trading_balances,
)
from sqlalchemy.exc import DBAPIError

from settlement.delivery import Delivery
from settlement.errors import accepted
from settlement.registry import Registry
from settlement.states import DayState
from settlement.verify import verify

BLOCKS_BEFORE_KILL = 15
WAIT_S = 120.0  # generous: the machine may be shared


@pytest.mark.slow
def test_the_primary_dies_and_nothing_confirmed_is_lost() -> None:
    if postgres_bin() is None:
        pytest.skip("PostgreSQL's server is not installed here")
    servers = start_postgres("-c wal_level=replica -c hot_standby=on")
    primary = next(servers)
    standby_folder = new_folder()
    data = standby_folder / "data"
    try:
        source = f"host=127.0.0.1 port={primary.port} user=cea application_name=standby"
        _as_user(primary.bin / "pg_basebackup", "-D", data, "-R", "-d", source, "--checkpoint=fast", "--no-sync")
        standby = PostgresServer(standby_folder, serve_on_a_free_port(primary.bin, standby_folder), primary.bin)
        sql = "ALTER SYSTEM SET synchronous_standby_names = 'standby'"
        port = str(primary.port)
        primary.run("psql", "-h", "127.0.0.1", "-p", port, "-U", "cea", "-d", "postgres", "-c", sql)
        _as_user(primary.bin / "pg_ctl", "-D", primary.folder / "data", "reload")

        url = new_database(primary)
        registry = small_world(url)
        deals = some_deals(4_000, fees=True)
        before = trading_balances(registry)
        delivery = confirmed(registry, deals)
        blocks: list[int] = []  # the last deal of each block whose commit came back: these are confirmed

        killed = threading.Event()

        def after_block(deal: int) -> None:
            blocks.append(deal)
            if len(blocks) == BLOCKS_BEFORE_KILL + 80:  # the kill comes late: there must be something left to settle
                killed.wait(WAIT_S)

        def settle() -> None:
            with pytest.raises(DBAPIError):
                delivery.settle(DAY, NOON, block_deals=20, after_block=after_block)

        worker = threading.Thread(target=settle)
        worker.start()
        while len(blocks) < BLOCKS_BEFORE_KILL:
            assert worker.is_alive(), "the settlement has ended"
            time.sleep(0.005)
        kill_server(primary)
        killed.set()
        worker.join(timeout=WAIT_S)
        assert not worker.is_alive()
        registry.engine.dispose()

        _as_user(primary.bin / "pg_ctl", "-D", data, "-w", "promote")
        survivor = Registry.open(standby.url(url.rsplit("/", 1)[1]))
        through = accepted(Delivery(survivor).day(DAY))
        assert through.state == DayState.SETTLING
        with survivor.engine.connect() as connection:
            reached = connection.exec_driver_sql("SELECT settled_through FROM settlement_day").scalar_one()
        assert reached >= blocks[-1], "a block that was confirmed is not on the standby"
        assert accepted(Delivery(survivor).settle(DAY, NOON)).state == DayState.SETTLED
        assert trading_balances(survivor) == expected_balances(before, deals)
        assert verify(survivor.engine) == []
        survivor.close()
    finally:
        if (data / "postmaster.pid").exists():
            _as_user(primary.bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(standby_folder, ignore_errors=True)
        shutil.rmtree(primary.folder, ignore_errors=True)
        servers.close()


def kill_server(server: PostgresServer) -> None:
    """SIGKILL to the postmaster and its children: the machine is gone."""
    pid = int((server.folder / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    for number in (pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):  # without the postmaster they end by themselves
            os.kill(number, signal.SIGKILL)
