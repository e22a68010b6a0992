"""Processes forked from a server that has imported torch, transformers and peft once and does nothing else.

Those imports take most of a small test's time.
"""

import os
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any


class ForkedProcess(ForkServerProcess):
    """Has the environment that it was made in; the server's is that of whichever test came first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._environment = dict(os.environ)

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class Forks(ForkServerContext):
    Process = ForkedProcess


FORKS = Forks()
FORKS.set_forkserver_preload(
    ["sparse_encoder.pretrain.loop", "vlm.tuning.run", "tests.serving.batch.killed_run"]
)
