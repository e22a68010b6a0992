"""What a tuning run tells on the way: to the tracker, to ``metrics.jsonl``, and beside the bar."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from sparse_encoder.pretrain.metrics import MetricsFile
from sparse_encoder.pretrain.pair_stream import SkipCounts


class TuneReport:
    """The measures of one rank's run; the main process writes them down. All ranks call together."""

    def __init__(self, accelerator: Accelerator, out: Path, skipped: SkipCounts) -> None:
        self.accelerator = accelerator
        self.skipped = skipped
        self._file = MetricsFile(out) if accelerator.is_main_process else None
        self._began(0)

    def go_on(self, step: int) -> None:
        """To be called once before the first step, with the number of those that are done."""
        if self._file is not None:
            self._file.go_on(step)
        self._began(step)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for samples."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def step(self, n_answer_tokens: int, density: float) -> None:
        """Takes in what one step of all ranks saw. density: of this rank's codes, NaN for none."""
        self._tokens += n_answer_tokens
        self._density = density

    @property
    def lost(self) -> float:
        """Share of the time since the last entry that went into waiting for samples, 0 to 1."""
        return self._waited / max(time.monotonic() - self._since, 1e-9)

    def write(self, step: int, loss: float, rates: tuple[float, float]) -> None:
        """step: finished ones; loss and rates: of the last of them."""
        spent = max(time.monotonic() - self._since, 1e-9)
        entry = {
            "loss": loss,
            "learning rate of the projector": rates[0],
            "learning rate of LoRA": rates[1],
            "density of the codes": self._density,
            "answer tokens per second": self._tokens / spent,
            "seconds per step": spent / max(1, step - self._step),
            "share of time waiting for samples": self._waited / spent,
            **{f"left out: {kind}": n for kind, n in self.skipped.totals().items()},
        }
        if self._file is not None:
            self._file.add(step, "train", entry)
        if self.accelerator.trackers:
            self.accelerator.log(entry, step=step)
        self._began(step)

    def _began(self, step: int) -> None:
        self._step, self._since, self._waited = step, time.monotonic(), 0.0
        self._tokens, self._density = 0, float("nan")
