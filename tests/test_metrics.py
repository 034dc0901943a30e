"""Metrics of a running exchange, health, readiness; dashboards, alerts and runbooks that name what exists."""

from __future__ import annotations

import json
import random
import re
import urllib.error
import urllib.request

import gateway_market as gm
import numpy as np
import pytest
import zmq
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from session_world import World

from engine import messages as m
from engine.codes import Code
from engine.records import ACCEPTED, CANCEL, COMMAND, EVENT, MESSAGE, NEW, REJECTED
from gateway import config as cfg
from gateway import metrics as module
from gateway.batch import CommandLog
from gateway.client import Client
from gateway.metrics import ALIVE_S, COMMIT_BOUNDS_NS, Metrics, TimedJournal
from gateway.operator import OperatorClient
from gateway.publishing import publish
from gateway.reports import ReportStore


class Journal:
    def __init__(self) -> None:
        self.commits = 0

    def append(self, commands, payloads):
        pass

    def commit(self) -> int:
        self.commits += 1
        return self.commits


def names_of(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def exposed() -> set[str]:
    """Every sample name that an exchange can serve."""
    metrics = Metrics()
    metrics.timed = TimedJournal(Journal())
    metrics.rejects[30] = metrics.session_rejects[204] = 1
    return names_of(generate_latest(metrics.registry).decode())


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=gm.PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def used_names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:cea|process)_[a-z_]+", expression))


def unknown_names(folder, known: set[str]) -> set[str]:
    """Names in the dashboard's and alerts' expressions that no exchange serves."""
    dashboard = json.loads((folder / "dashboard.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    expressions += re.findall(r'^ *expr: "(.*)"$', (folder / "alerts.yml").read_text(), re.M)
    assert len(expressions) > 25
    return set().union(*map(used_names, expressions)) - known


def test_dashboard_and_alerts_use_only_metrics_that_exist(repository):
    assert not unknown_names(repository / "docs" / "operations", exposed())


def test_a_metric_that_is_renamed_would_be_found_in_the_dashboard_or_the_alerts(repository):
    known = exposed()
    assert unknown_names(repository / "docs" / "operations", known - {"cea_commit_seconds_bucket"})


def test_each_alert_has_its_runbook_and_each_runbook_its_alert(repository):
    folder = repository / "docs" / "operations"
    alerts = re.findall(r"alert: (\w+)", (folder / "alerts.yml").read_text())
    runbooks = re.findall(r"^## (\w+)", (folder / "runbooks.md").read_text(), re.M)
    assert sorted(alerts) == sorted(runbooks) and len(set(alerts)) == len(alerts)


def test_commits_fall_into_the_bucket_of_their_time(monkeypatch):
    times = iter([0, 60_000, 0, 50_000, 0, 2_000_000_000])
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: next(times))
    timed = TimedJournal(Journal())
    assert [timed.commit() for _ in range(3)] == [1, 2, 3]
    assert timed.buckets[1] == 1 and timed.buckets[0] == 1 and timed.buckets[len(COMMIT_BOUNDS_NS)] == 1
    assert timed.total_ns == 2_000_110_000


def test_kinds_and_refusals_are_counted_where_a_group_is_taken_whoever_gets_its_reports():
    log, store = CommandLog(), ReportStore()
    commands, events = np.zeros(6, COMMAND), np.zeros(4, EVENT)
    commands["kind"] = [NEW, NEW, CANCEL, MESSAGE, NEW, NEW]
    events["kind"], events["reason"], events["session"] = [REJECTED, ACCEPTED, REJECTED, REJECTED], [30, 30, 30, 215], 1
    log.append(commands, b"")
    store.append(events, b"")
    assert store.direct
    events["session"][:2] = 0  # an account's, and before the other refusals: not sent directly, but counted
    commands.flags.writeable = events.flags.writeable = False
    log.append(commands, b"")
    store.append(events, b"")
    assert not store.direct
    log.append(commands[:0], b"")
    store.append(events[:0], b"")
    assert [int(log.kinds[k]) for k in (NEW, CANCEL, MESSAGE)] == [8, 2, 2] and log.kinds.sum() == 12
    assert store.rejects[30] == 4 and store.rejects[215] == 2 and store.rejects.sum() == 6
    log.start_day()
    store.start_day()
    assert log.kinds.sum() == 12 and store.rejects.sum() == 6
    assert max(Code) < 256 and module.KINDS[NEW] == "new" and module.KINDS[MESSAGE] == "message"


def test_requests_are_counted_since_the_start_and_recovered_ones_are_not():
    core, metrics = World(random.Random(1)).core, Metrics()
    before = int(core.log.kinds[MESSAGE])  # as a recovery leaves them: taken before the metrics are attached
    metrics.attach(core)
    core.source(m.Deposit(account=1, amount=1, document="after"))
    core.flush()
    core.journal.durable_seq = core.exchange.seq
    metrics.update(core, core.journal)
    assert metrics.kinds[MESSAGE] == 1 and core.log.kinds[MESSAGE] == before + 1 > 4


def test_health_fails_when_the_loop_stands_and_readiness_in_cancel_only(monkeypatch):
    metrics = Metrics()
    assert not metrics.health()[0]
    metrics._copied_at = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: 101.0)
    assert metrics.health()[0] and metrics.ready()[0]
    metrics.gauges["cea_cancel_only"] = 1
    assert metrics.health()[0] and metrics.ready() == (False, "cancel-only")
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.1 + ALIVE_S)
    assert not metrics.health()[0]


def test_a_latency_counts_for_every_command_of_its_group(monkeypatch):
    metrics = Metrics()
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: 1_000_000)
    metrics._reported(30, 1_000_000 - 300_000)
    metrics._reported(1, 0)
    assert metrics.latency[2] == 30 and metrics.latency[4] == 1
    assert metrics.latency_ns == 30 * 300_000 + 1_000_000


def test_a_slow_subscribers_full_queue_is_counted_once_each_time_and_the_others_lose_nothing():
    with zmq.Context() as context:
        feed = context.socket(zmq.XPUB)
        feed.sndhwm = 5
        feed.set(zmq.XPUB_NODROP, 1)
        feed.set(zmq.XPUB_VERBOSE, 1)  # tells of the second subscription too
        feed.bind("inproc://feed")
        readers = [context.socket(zmq.SUB) for _ in range(2)]
        for reader in readers:
            reader.rcvhwm = 5
            reader.subscribe("F")
            reader.connect("inproc://feed")
            feed.recv()
        full, got = [], []
        for n in range(200):
            full.append(publish(feed, (b"F.CEA24", b"%d" % n)))
            assert readers[0].poll(60_000)
            got.append(int(readers[0].recv_multipart()[1]))
        assert got == list(range(200)) and sum(full) == 1
        while readers[1].poll(0):
            readers[1].recv_multipart()
        again = [publish(feed, (b"F.CEA24", b"more")) for n in range(20)]  # now nobody reads
        assert sum(again) >= 1
        assert not publish(feed, (b"C.CEA24", b""))  # nobody asked for it: nobody lost it
        for socket in (*readers, feed):
            socket.close(0)


@pytest.mark.parametrize("lane", [pytest.param("plain", marks=pytest.mark.slow), "hot"])
def test_a_running_exchange_serves_what_really_happened(tmp_path, lane):
    folder = tmp_path / "m"
    gm.make(folder, lane=lane)
    with gm.running(folder), OperatorClient(folder, key=str(folder / "keys" / "ops1.key")) as ops:
        gm.fund(ops)
        with Client(folder, key=str(folder / "keys" / "member-1.key")) as me:
            me.buy("CEA24", "59.00", 10)
            for _ in range(3):
                me.buy("CEA24", "99.00", 10)
            endpoints = cfg.read_endpoints(folder)
            base = endpoints.metrics.removesuffix("/metrics")

            def samples() -> dict:
                families = text_string_to_metric_families(fetch(endpoints.metrics)[1])
                labels = ("code", "kind")
                return {
                    (s.name, next((s.labels[n] for n in labels if n in s.labels), "")): s.value
                    for f in families
                    for s in f.samples
                }

            module.write_verified(folder, module.Verified(7, 1_764_700_000, 0, "ab"))

            last = ("cea_rejects_total", "price_above_limit")
            assert gm.wait_until(lambda: samples().get(last) == 3)  # copied once a second
            found = samples()
            assert found[last] == 3
            assert found["cea_open_orders", ""] == 1 and found["cea_sessions", ""] == 2
            assert found["cea_sequence", ""] == found["cea_durable_sequence", ""] > 0
            assert found["cea_commit_seconds_count", ""] > 0 and found["cea_calendar_days_left", ""] == 2
            assert found["cea_requests_total", "new"] == 4
            assert found["cea_latency_seconds_count", ""] == found["cea_commands_total", ""]
            assert 0 < found["cea_latency_seconds_sum", ""] < 60
            assert found["cea_verified_sequence", ""] == 7 and found["cea_disk_free_bytes", ""] > 0
            assert found["process_resident_memory_bytes", ""] > 0
            for path in ("health", "healthz", "ready", "readyz"):
                assert gm.wait_until(lambda p=path: fetch(f"{base}/{p}")[0] == 200), path
            assert fetch(f"{base}/other")[0] == 404


def test_each_unit_and_timer_runs_a_command_that_there_is(repository):
    from cea.main import command

    known = command()
    units = sorted((repository / "docs" / "operations").glob("*.service"))
    assert len(units) >= 5
    for unit in units:
        words = re.findall(r"/bin/cea ([a-z]+)", unit.read_text())
        assert words, unit
        for word in words:
            assert known.get_command(None, word) is not None, (unit, word)
    timers = [path.stem for path in (repository / "docs" / "operations").glob("*.timer")]
    assert timers and all((repository / "docs" / "operations" / f"{name}.service").exists() for name in timers)
