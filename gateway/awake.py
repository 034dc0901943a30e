"""Processors that stay awake: an order must not wait until one that was halted has come back.

A processor without work halts, and an interrupt wakes it up. On a machine of its own that costs some ten microseconds.
A virtual machine's halted processor is given to somebody else, and each message, each answer of the disk then waits in
the host's queue: milliseconds, some hundred times a second (docs/performance.md has the figures). So while an
exchange runs it keeps /dev/cpu_dma_latency open, which tells the kernel how long a wake-up may take (PM QoS,
Documentation/power/pm_qos_interface.rst): 0 µs, and processors without work look for some instead of halting. They use
power all the time, as on every trading machine. Who may open the device decides: it is root's (docs/operations.md).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

DEVICE: Final = Path("/dev/cpu_dma_latency")
# Without a driver for idle processors the kernel has one way only, to halt, and asks nobody.
IDLE_DRIVER: Final = Path("/sys/devices/system/cpu/cpuidle/current_driver")
WAKE_UP_US: Final = struct.pack("=i", 0)


class Awake:
    """Holds the processors awake until :meth:`close`, or the process's end. ``why``: what kept it from that, or ""."""

    def __init__(self, device: Path = DEVICE, idle_driver: Path = IDLE_DRIVER) -> None:
        self._fd = -1
        self.why = ""
        try:
            if idle_driver.read_text().strip() == "none":
                self.why = f"{idle_driver}: none"
                return
            self._fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._fd, WAKE_UP_US)
        except OSError as error:
            self.close()
            self.why = f"{error.filename or device}: {error.strerror}"

    @property
    def held(self) -> bool:
        """True while the processors are kept awake."""
        return self._fd >= 0

    def close(self) -> None:
        """They may halt again, unless somebody else keeps them awake."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
