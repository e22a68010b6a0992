"""Resident memory of this process above that at a start, as Linux counts it."""

from pathlib import Path


class ProcessMemory:
    """Counts from when it is made; for a process that does one thing."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        self.start = self._kib("VmRSS")

    def wait(self) -> None:
        """Nothing to wait for on a CPU."""

    def peak(self) -> int:
        """Bytes above the start, at most."""
        return 1024 * (self._kib("VmHWM") - self.start)

    def _kib(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))
