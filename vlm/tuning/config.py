"""What a tuning run is made of, as plain data, and the runs that have names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sparse_encoder.errors import SparsightError
from sparse_encoder.run_config import override
from vlm.edited_codes import EditShares
from vlm.projector import check_removal
from vlm.template import DEFAULT_PROMPT

_COUNTS = ("micro_batch", "max_tokens", "captions", "buffer", "save_every", "log_every")


@dataclass(frozen=True)
class LoraShape:
    """The low-rank change to the language model that stage 2 trains (peft's LoraConfig)."""

    rank: int = 16  # of each layer's change
    alpha: float = 32.0  # the change is scaled by alpha / rank, or alpha / sqrt(rank)
    targets: tuple[str, ...] = ()  # names of linear layers; empty: all but the output layer
    dropout: float = 0.0  # share of the change's inputs that are left out
    dora: bool = False  # weight-decomposed: a magnitude for each output, too
    rslora: bool = False  # scaled by alpha / sqrt(rank)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SparsightError(f"lora.rank={self.rank}: expected 1 or more", param="lora.rank")
        if not 0 <= self.dropout < 1:
            raise SparsightError(
                f"lora.dropout={self.dropout} is a share, 0 or more, below 1", param="lora.dropout"
            )


@dataclass(frozen=True)
class Stage:
    """How long a stage lasts, and how fast it learns."""

    samples: int = 0  # images with captions, and conversations, seen in the stage; 0: by epochs
    epochs: float = 0.0  # over the conversations, where `samples` is 0
    batch: int = 128  # samples a step, over all processes
    lr_projector: float = 1e-3  # of AdamW, at its peak
    lr_lora: float = 0.0  # of stage 2; stage 1 leaves the language model as it is
    conversations: float = 0.5  # share of a batch, where there are captions and conversations

    def __post_init__(self) -> None:
        if self.samples < 0 or self.epochs < 0 or self.batch < 1:
            raise SparsightError(
                f"samples={self.samples}, epochs={self.epochs}, batch={self.batch}: expected 0 or "
                "more samples and epochs, and a batch of 1 or more",
                param="batch",
            )
        if not 0 <= self.conversations <= 1:
            raise SparsightError(
                f"conversations={self.conversations} is a share, 0 to 1", param="conversations"
            )


@dataclass(frozen=True)
class TuneRun:
    """One run: stage 1 trains the projector, stage 2 the projector and LoRA."""

    llm: str = "smollm2-135m-instruct"  # the part in the box, or a hub name, or a folder
    llm_weights: bool = True  # False: random ones in its shape
    chat_template: str = ""  # Jinja file that goes before the tokenizer's own template
    encoder: str = ""  # tower preset that --dry-run plans with; a run is given its encoder's folder
    groups: tuple[int, int] = (3, 3)  # the cells are averaged into this many soft tokens
    removal: float = 0.0  # what an ablation takes beyond zeros; answers only
    lora: LoraShape = field(default_factory=LoraShape)
    stage1: Stage = field(default_factory=Stage)
    stage2: Stage = field(default_factory=Stage)
    micro_batch: int = 8  # samples that pass the language model at once, on one process
    max_tokens: int = 2_048  # of a row, soft tokens included; what is longer is cut
    captions: int = 5  # of an image at most; they share its soft tokens
    prompt: str = DEFAULT_PROMPT  # what captions answer
    warmup: float = 0.03  # share of a stage in which the learning rate rises
    weight_decay: float = 0.0  # of AdamW
    clip_norm: float = 1.0  # of all gradients; 0: not clipped
    precision: str = "bf16"  # of the language model: bf16, fp16 or fp32
    checkpointing: bool = False  # gradient checkpointing: a fifth more work, far less memory
    edits: EditShares = field(default_factory=EditShares)
    words: str = ""  # file of words that name features, one a line; empty: those in the box
    atlas_images: int = 2_000  # first photographs, from which names, scales and dead features come
    start_from: str = ""  # model whose projector and adapter the run begins with
    skip_bad: bool = False  # leave bad conversations out, counted, where the default refuses
    workers: int = 4  # loading processes; the order of captions depends on their number
    buffer: int = 1_000  # captioned images that a worker's shuffle holds
    save_every: int = 200  # steps between checkpoints
    log_every: int = 10  # steps between entries in the tracker
    tracker: str = "tensorboard"  # any that accelerate knows; empty: none
    seed: int = 0  # of weights and order

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise SparsightError(
                    f"{name}={getattr(self, name)}: expected 1 or more", param=name
                )
        if self.precision not in ("bf16", "fp16", "fp32"):
            raise SparsightError(
                f"precision={self.precision!r}: expected bf16, fp16 or fp32", param="precision"
            )
        check_removal(self.removal)
        if not 0 <= self.warmup <= 1:
            raise SparsightError(f"warmup={self.warmup} is a share, 0 to 1", param="warmup")

    @property
    def stages(self) -> tuple[Stage, Stage]:
        return self.stage1, self.stage2

    @property
    def kept_steps(self) -> frozenset[int]:
        """Numbers of steps whose checkpoints stay beside the newest one."""
        return frozenset()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


TUNE_PRESETS = {
    # For tests and first tries: seconds on a CPU.
    "tiny-8x": TuneRun(
        llm="tiny",
        encoder="vit-tiny-8x",
        groups=(2, 2),
        lora=LoraShape(rank=2, alpha=4.0),
        stage1=Stage(samples=32, batch=8, lr_projector=3e-3),
        stage2=Stage(samples=128, batch=8, lr_projector=3e-3, lr_lora=3e-3),
        micro_batch=4,
        max_tokens=512,
        precision="fp32",
        atlas_images=32,
        workers=0,
        buffer=16,
        save_every=8,
        log_every=4,
        tracker="",
    ),
    # The language model in the box, on a CPU or one small GPU.
    "smollm2": TuneRun(
        stage1=Stage(samples=4_000, batch=32),
        stage2=Stage(samples=40_000, batch=32, lr_projector=3e-4, lr_lora=1e-3),
        precision="fp32",
        workers=1,
    ),
    # Sparse CLIP's (arXiv 2601.20075): Llama 3.1 8B Instruct; stage 1 on 1 M captioned images for 2
    # epochs, stage 2 on 2.5 M questions for 4. LoRA, soft tokens, batch and rates are ours: the
    # paper tunes the whole model and does not give them.
    "llama-8b-72x": TuneRun(
        llm="meta-llama/Llama-3.1-8B-Instruct",
        encoder="vit-l14-72x",
        groups=(8, 8),
        lora=LoraShape(rank=64, alpha=128.0),
        stage1=Stage(samples=2_000_000, batch=256, lr_projector=1e-3, conversations=0.0),
        stage2=Stage(
            samples=10_000_000, batch=128, lr_projector=2e-5, lr_lora=2e-4, conversations=1.0
        ),
        micro_batch=4,
        checkpointing=True,
    ),
}


def tune_run(preset: str, settings: Mapping[str, Any]) -> TuneRun:
    """A preset with some fields changed, nested ones as ``stage2.samples`` or ``lora.rank``."""
    if preset not in TUNE_PRESETS:
        raise SparsightError(
            f"no preset {preset!r}; known: mini, tiny, {', '.join(TUNE_PRESETS)}", param="preset"
        )
    return override(TUNE_PRESETS[preset], settings)
