"""Who has used the processors meanwhile: this process, the server, or others.

A measurement tells nothing when other processes have taken part of the cores on which it ran. The
kernel counts, for each core, the time in which it did anything; what neither the measured process
nor its server has used is foreign. Interrupts count as nobody's: most of them are the loopback
interface's. On Linux.
"""

import os
import time
from pathlib import Path
from typing import Final

__all__ = ["Load"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20


class Load:
    """Measures from its making on."""

    def __init__(self, server: int = 0):
        """Begin to measure.

        Args:
            server: Process id of the server, or 0.
        """
        self._server = server
        self._began = time.monotonic()
        self._own = time.process_time()
        self._served = _used(server)
        self._busy = _busy()

    def secs(self) -> float:
        """How long it has been measured."""
        return time.monotonic() - self._began

    def own(self) -> float:
        """Processor seconds of this process."""
        return time.process_time() - self._own

    def foreign(self) -> float:
        """Processor seconds of other processes."""
        served = _used(self._server) - self._served
        return max(0.0, _busy() - self._busy - self.own() - served)

    @staticmethod
    def rss_mib() -> float:
        """The memory that this process occupies."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MIB


def _used(process: int) -> float:
    """Processor seconds of a process."""
    if not process:
        return 0.0
    # The name, in parentheses, may have spaces.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _busy() -> float:
    """Seconds in which the cores worked for any process, or for another machine."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, fields[:8])
    return (user + nice + system + steal) / _TICKS
