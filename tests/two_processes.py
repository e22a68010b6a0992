"""A training on two processes of this machine, as `accelerate launch` and torchrun start them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def launch(script: Path, code: str, words: list[str]) -> subprocess.Popen[bytes]:
    """Runs `code`, written to `script`, with `words` as its arguments, on two CPU ranks."""
    script.write_text(code)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    here = {"PYTHONPATH": str(ROOT)}  # not what may be installed
    environment = {**os.environ, **here, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    # A session of its own: torchrun and both ranks are killed together.
    return subprocess.Popen(
        [*torchrun, "--nproc-per-node", "2", str(script), *words],
        env=environment,
        start_new_session=True,
    )
