"""CPU seconds of processes and all that they started, as Linux counts them."""

import os
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of the living processes below `roots`, they included."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it ended meanwhile
            continue
        fields = text.rpartition(")")[2].split()  # a name may hold blanks
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        spent[pid] = (int(fields[11]) + int(fields[12])) / TICK
    wanted = set(roots)
    return sum(seconds for pid, seconds in spent.items() if _below(pid, wanted, parents))


def _below(pid: int, roots: set[int], parents: dict[int, int]) -> bool:
    while pid > 0:
        if pid in roots:
            return True
        pid = parents.get(pid, 0)
    return False
