"""What a run tells on the way: to the tracker, to ``metrics.jsonl``, and beside the progress bar."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from sparse_encoder.pretrain.chunked_loss import ContrastiveResult
from sparse_encoder.pretrain.config import PretrainRun
from sparse_encoder.pretrain.metrics import MetricsFile
from sparse_encoder.pretrain.optimiser import learning_rate
from sparse_encoder.pretrain.pair_stream import SkipCounts
from sparse_encoder.pretrain.silent_features import SilentFeatures
from sparse_encoder.pretrain.validation import Validator
from sparse_encoder.towers.model import SparseClip

# Under which names the last validation stands beside the progress bar.
_SHORT = {"val R@1 text to image": "r1", "zero-shot top-1": "top1"}


class RunReport:
    """The measures of one rank's run; the main process writes them down. All ranks call together."""

    def __init__(
        self, run: PretrainRun, accelerator: Accelerator, out: Path, skipped: SkipCounts
    ) -> None:
        self.run = run
        self.accelerator = accelerator
        self.skipped = skipped
        self.window = SilentFeatures(-(-run.window // accelerator.num_processes))
        self.short: dict[str, str] = {}
        self._file = MetricsFile(out) if accelerator.is_main_process else None
        self._began(0)

    def go_on(self, step: int) -> None:
        """To be called once before the first step, with the number of those that are done."""
        if self._file is not None:
            self._file.go_on(step)
        self._began(step)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for pairs."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def training(self, step: int, loss: float, found: ContrastiveResult, clip: SparseClip) -> None:
        """step: finished ones; loss and `found`: of the last of them."""
        spent = max(time.monotonic() - self._since, 1e-9)
        waited, n_steps = self._waited, step - self._step
        silent = self.window.count(clip, self.accelerator)
        entry = {
            "loss": loss,
            "image L0": found.image.l0.item(),
            "text L0": found.text.l0.item(),
            "image features silent in the batch": clip.features - int(found.image.active_features),
            "text features silent in the batch": clip.features - int(found.text.active_features),
            "image features silent in the window": silent[0],
            "text features silent in the window": silent[1],
            "pairs in the window": len(self.window) * self.accelerator.num_processes,
            "logit scale": clip.scale.item(),
            "learning rate": learning_rate(self.run, step - 1),
            "pairs per second": n_steps * self.run.batch / spent,
            "share of time waiting for pairs": waited / spent,
            **{f"left out: {kind}": n for kind, n in self.skipped.totals().items()},
        }
        self._write(step, "train", entry)
        self._began(step)

    def validation(self, step: int, validator: Validator, clip: SparseClip) -> None:
        """Measures `clip`; its time counts as none of training's."""
        began = time.monotonic()
        entry = validator.measure(clip)
        self._write(step, "val", entry)
        self.short = {
            short: f"{100 * entry[name]:.1f}%" for name, short in _SHORT.items() if name in entry
        }
        self._since += time.monotonic() - began

    def _write(self, step: int, kind: str, entry: dict[str, float]) -> None:
        if self._file is not None:
            self._file.add(step, kind, entry)
        if self.accelerator.trackers:
            self.accelerator.log(entry, step=step)

    def _began(self, step: int) -> None:
        self._step, self._since, self._waited = step, time.monotonic(), 0.0
