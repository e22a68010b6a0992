"""Processes forked from a server that has imported torch, transformers and peft once and does nothing else.

Those imports take most of a small test's time. A process has the environment that the server was started with.
"""

from multiprocessing import get_context

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    ["sparse_encoder.pretrain.loop", "vlm.tuning.run", "tests.serving.batch.killed_run"]
)
