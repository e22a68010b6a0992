"""What a captioner's training run is made of, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sparse_encoder.errors import SparsightError
from sparse_encoder.run_config import override
from vlm.edited_codes import EditShares
from vlm.projector import check_removal
from vlm.text_codes import TextCodeNoise


@dataclass(frozen=True)
class VlmRun:
    """One run. Rows a step are drawn with replacement; steps, not epochs, are counted."""

    llm: str = "smollm2-135m-instruct"  # or "tiny": random, for tests
    start_from: str = ""  # model whose projector and adapter the run begins with; empty: fresh
    groups: tuple[int, int] = (3, 3)  # cell tokens an image
    removal: float = 0.0  # what an ablation takes beyond zeros; answers only
    rank: int = 12  # of LoRA, on every linear layer
    steps: int = 560  # of both stages together
    stage1: float = 0.03  # share of the steps that train the projector alone
    text_rows: int = 24  # captions without pictures a step
    caption_rows: int = 6  # captioned photographs a step, all their captions each
    label_rows: int = 12  # labelled photographs a step, both questions each
    qa_rows: int = 1  # questions on photographs a step
    longest_caption: int = 14  # words; longer captions without pictures are left out
    text_captions: int = 0  # captions without pictures, evenly spread over the file; 0: all
    lr_projector: float = 3e-4  # of AdamW, at its peak
    lr_lora: float = 1e-3  # the same, of the adapter
    weight_decay: float = 0.01  # of AdamW
    seed: int = 0  # of weights and order
    precision: str = "auto"  # bf16 where the processor multiplies it, else fp32
    noise: TextCodeNoise = field(default_factory=TextCodeNoise)
    edits: EditShares = field(default_factory=EditShares)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SparsightError(
                f"steps={self.steps}: a run needs at least one step", param="steps"
            )
        if not 0 <= self.stage1 <= 1:
            raise SparsightError(f"stage1={self.stage1} is a share, 0 to 1", param="stage1")
        check_removal(self.removal)
        if self.precision not in ("auto", "bf16", "fp32"):
            raise SparsightError(
                f"precision={self.precision!r}: expected auto, bf16 or fp32", param="precision"
            )

    @property
    def rows(self) -> int:
        return self.text_rows + self.caption_rows + self.label_rows + self.qa_rows

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


PRESETS = {
    # What the shipped runs share, see the model card. Five minutes of a GPU, hours of two cores.
    "mini": VlmRun(
        steps=830,
        stage1=0.0,
        caption_rows=8,
        label_rows=14,
        edits=EditShares(
            swap=0.5,
            suppress=0.4,
            insert=0.2,
            least_dose=1.0,
            most_dose=6.0,
            ks=(1, 2, 4, 4, 8, 16),
        ),
    ),
    "tiny": VlmRun(
        llm="tiny",
        rank=2,
        steps=20,
        text_rows=4,
        caption_rows=2,
        label_rows=2,
        qa_rows=1,
        groups=(1, 1),
        precision="fp32",
    ),
}


def vlm_run(preset: str, settings: Mapping[str, Any]) -> VlmRun:
    """A preset with some fields changed."""
    if preset not in PRESETS:
        raise SparsightError(f"no preset {preset!r}; known: {', '.join(PRESETS)}", param="preset")
    return override(PRESETS[preset], settings)
