"""How long a thread of torch waits awake for the others of its team, in a server.

GNU's OpenMP spins 300,000 rounds at the end of a parallel region before it sleeps. Where a vLLM has
the same cores the thread waited for is often not running, and the wait lasts a slice of the
scheduler's: steering one request took 29 ms of CPU in place of 6. With 10,000 rounds it takes 6,
and on free cores encoding and answering are not slower by more than two equal runs differ. Sums are the same either way.
"""

import os
from collections.abc import MutableMapping

SPIN_COUNT = "GOMP_SPINCOUNT"
_ROUNDS = "10000"


def spin_briefly() -> None:
    """For this process, unless its environment says otherwise. To be called before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(SPIN_COUNT, _ROUNDS)


def undo_for_child(env: MutableMapping[str, str]) -> None:
    """Takes our choice out of the environment of a vLLM: how that waits is its own matter."""
    if env.get(SPIN_COUNT) == _ROUNDS:
        del env[SPIN_COUNT]
