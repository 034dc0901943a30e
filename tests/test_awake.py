"""Processors that do not halt while an exchange runs (gateway.awake): who holds what, and who says why not."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import gateway_market as gm
import pytest

from cea.doctor import folder_checks
from gateway.awake import DEVICE, Awake


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    path = tmp_path / "current_driver"
    path.write_text("intel_idle\n")
    return path


def test_a_wake_up_may_take_no_time_while_it_is_held(tmp_path: Path, driver: Path) -> None:
    device = tmp_path / "device"
    device.touch()
    awake = Awake(device, driver)
    assert awake.held and awake.why == ""
    assert struct.unpack("=i", device.read_bytes()) == (0,)  # µs, what PM QoS asks for
    open_now = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert str(device) in open_now, "the kernel forgets it with the descriptor"
    awake.close()
    awake.close()
    assert not awake.held
    open_now = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert str(device) not in open_now


@pytest.mark.parametrize("missing", ["device", "driver", "no driver at work", "not ours"])
def test_what_keeps_it_from_that_is_named(tmp_path: Path, driver: Path, missing: str) -> None:
    device = tmp_path / "device"
    if missing != "device":
        device.touch()
    if missing == "driver":
        driver.unlink()
    if missing == "no driver at work":
        driver.write_text("none\n")
    if missing == "not ours":
        device.unlink()
        device.mkdir()  # refused to root too
    awake = Awake(device, driver)
    assert not awake.held
    assert str(device if missing in ("device", "not ours") else driver) in awake.why
    awake.close()


@pytest.mark.parametrize("wanted", [True, False])
def test_an_exchange_holds_it_while_it_runs_where_it_may(tmp_path: Path, wanted: bool) -> None:
    def holders() -> int:
        found = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return found.count(str(DEVICE))

    probe = Awake()
    probe.close()
    before = holders()
    with gm.serving(gm.make(tmp_path / "m", stay_awake=wanted)) as server:
        held = server._awake is not None and server._awake.held
        assert holders() == before + held
        assert gm.wait_until(lambda: server.metrics.gauges["cea_processors_awake"] == held)
        assert held == (wanted and not probe.why)
    assert holders() == before


def test_the_doctor_says_whether_they_stay_awake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Path) -> None:
    device = tmp_path / "device"
    device.touch()
    monkeypatch.setattr(Awake.__init__, "__defaults__", (device, driver))
    gm.make(tmp_path / "m")
    found = {c.name: c for c in folder_checks(tmp_path / "m")}["processors"]
    assert found == ("processors", "ok", "stay awake for orders")
    device.unlink()
    found = {c.name: c for c in folder_checks(tmp_path / "m")}["processors"]
    assert found.state == "warning" and f"{device}: No such file" in found.text and "Processors" in found.text
    gm.make(tmp_path / "halting", stay_awake=False)
    found = {c.name: c for c in folder_checks(tmp_path / "halting")}["processors"]
    assert found.state == "ok" and "stay_awake = false" in found.text
