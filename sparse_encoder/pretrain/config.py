"""What a pretraining run is made of, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sparse_encoder.errors import SparsightError
from sparse_encoder.kept_steps import kept_steps
from sparse_encoder.run_config import override
from sparse_encoder.towers.config import SparseClipConfig
from sparse_encoder.towers.presets import TOWER_PRESETS

_COUNTS = (
    "batch",
    "micro_batch",
    "samples",
    "save_every",
    "log_every",
    "val_every",
    "val_pairs",
    "window",
)


@dataclass(frozen=True)
class PretrainRun:
    """One run of all towers, or of what of them is not frozen, on image-text pairs."""

    model: SparseClipConfig = field(default_factory=SparseClipConfig)
    start_from: str = ""  # a CLIP checkpoint of OpenCLIP or Hugging Face; empty: fresh weights
    samples: int = 450_000_000  # pairs seen in the whole run
    batch: int = 32_768  # pairs a step, over all ranks
    micro_batch: int = 256  # pairs that the trunks of one rank take at once
    lr: float = 5e-4  # of AdamW, at its peak
    warmup: int = 2_000  # steps
    weight_decay: float = 0.2  # of matrices; biases, norms and the scale have none
    beta2: float = 0.98  # of AdamW
    eps: float = 1e-6  # of AdamW
    clip_norm: float = 1.0  # of all gradients; 0: not clipped
    ema: float = 0.0  # share of the old average a step; 0: no average is kept
    precision: str = "bf16"  # of the trunks: bf16, fp16 or fp32
    shard: bool = False  # weights, gradients and moments are shared out over the processes
    workers: int = 4  # loading processes a rank; the order of pairs depends on their number
    buffer: int = 1_000  # samples that a worker's shuffle holds
    crop: float = 1.0  # least share of a picture that a random crop keeps; 1: the centre, always
    flip: bool = False  # every second picture is mirrored
    local_weight: float = 0.0  # of FSC-CLIP's local hard negatives; 0: none (theirs: 0.2)
    save_every: int = 500  # steps between checkpoints
    log_every: int = 10  # steps between entries in the tracker
    val_every: int = 500  # steps between validations, where there are shards for it
    val_pairs: int = 1_000  # pairs of the validation shards that R@1 is taken over
    window: int = 8_192  # last pairs, on which a feature must be silent to count as dead
    tracker: str = "tensorboard"  # any that accelerate knows; empty: none
    seed: int = 0  # of weights and order

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise SparsightError(
                    f"{name}={getattr(self, name)}: expected 1 or more", param=name
                )
        if self.samples < self.batch:
            raise SparsightError(
                f"samples={self.samples} is less than one batch of {self.batch} pairs",
                param="samples",
            )
        if self.precision not in ("bf16", "fp16", "fp32"):
            raise SparsightError(
                f"precision={self.precision!r}: expected bf16, fp16 or fp32", param="precision"
            )
        if not 0 <= self.ema < 1:
            raise SparsightError(f"ema={self.ema} is a share, 0 or more, below 1", param="ema")
        if self.shard and self.ema:
            raise SparsightError(
                f"ema={self.ema} keeps a whole copy of the weights on each process, and shard=true "
                "shares them out; set ema=0, or leave shard out",
                param="ema",
            )
        if self.shard and self.precision == "fp16":
            raise SparsightError(
                "precision='fp16' scales its loss, which shard=true does not: expected bf16 or fp32",
                param="precision",
            )
        if not 0 < self.crop <= 1:
            raise SparsightError(
                f"crop={self.crop}: expected a share above 0, at most 1", param="crop"
            )
        if self.local_weight < 0:
            raise SparsightError(
                f"local_weight={self.local_weight}: expected 0 or more", param="local_weight"
            )

    @property
    def steps(self) -> int:
        return self.samples // self.batch

    @property
    def kept_steps(self) -> frozenset[int]:
        """Numbers of finished steps whose checkpoints stay."""
        return kept_steps(self.steps)

    def local_batch(self, n_ranks: int) -> int:
        """Pairs a step of one rank; raises SparsightError where ranks cannot share evenly."""
        if self.batch % n_ranks:
            raise SparsightError(
                f"batch={self.batch} cannot be shared evenly by {n_ranks} processes; set batch to a "
                f"multiple, such as {-(-self.batch // n_ranks) * n_ranks}",
                param="batch",
            )
        local = self.batch // n_ranks
        if self.local_weight and self.micro_batch < local:
            raise SparsightError(
                f"local_weight={self.local_weight} needs the states of all patches of a batch at "
                f"once, but micro_batch={self.micro_batch} is less than the {local} pairs of a "
                f"process; set micro_batch={local}, or take more processes",
                param="micro_batch",
            )
        return local

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# The paper gives samples, batch and lr of its small runs (30 epochs of 15 M pairs, 32K, 5e-4) and
# the samples of its large ones (6 epochs of 2.2 B); the rest of the large ones is taken over.
_RUNS: dict[str, dict[str, Any]] = {
    "vit-b32-32x": {"samples": 450_000_000},
    "vit-l14-72x": {"samples": 13_200_000_000},
    # On one CPU core in about an hour; a few thousand pictures, each seen some 50 times.
    "vit-small-scratch": {
        "samples": 512_000,
        "batch": 128,
        "micro_batch": 128,
        "lr": 1e-3,
        "warmup": 100,
        "weight_decay": 0.1,
        "precision": "fp32",
        "workers": 0,
        "buffer": 8_000,
        "crop": 0.35,
        "flip": True,
        "save_every": 200,
        "log_every": 20,
        "val_every": 200,
    },
    "vit-tiny-8x": {
        "samples": 2_000,
        "batch": 32,
        "micro_batch": 16,
        "warmup": 10,
        "precision": "fp32",
        "workers": 0,
        "buffer": 50,
        "save_every": 20,
        "lr": 2e-3,
    },
}
PRETRAIN_PRESETS = tuple(TOWER_PRESETS)


def pretrain_run(preset: str, settings: Mapping[str, Any]) -> PretrainRun:
    """A preset with some fields changed."""
    if preset not in TOWER_PRESETS:
        raise SparsightError(
            f"no preset {preset!r}; known: {', '.join(PRETRAIN_PRESETS)}", param="preset"
        )
    run = PretrainRun(model=TOWER_PRESETS[preset])
    return override(replace(run, **_RUNS.get(preset, {})), settings)
