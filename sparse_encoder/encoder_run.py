"""What an encoder's training run is made of, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparse_encoder.activations import check_activation
from sparse_encoder.encoder import EncoderConfig
from sparse_encoder.errors import SparsightError
from sparse_encoder.run_config import override


@dataclass(frozen=True)
class EncoderRun:
    """One run over cached trunk outputs."""

    features: int = 8192  # width of the codes
    activation: str = "relu"  # "topk", "batch_topk"; "identity", the dense head to compare with
    k: int = 0  # features that a row keeps, for the two top-k rules alone
    l1: float = 0.0  # weight of the unit codes' l1 norm
    hidden: int = 0  # width of a layer before the last projection; for a dense head only
    bias: float = -1.3  # initial, in deviations of the pre-code
    image_trunk: str = "efficientnet-lite2"  # a part in the box
    text_trunk: str = "all-minilm-l6-v2"  # a part in the box
    epochs: float = 20.0  # passes over the weighted pairs
    batch: int = 512  # pairs a step
    lr: float = 1e-3  # of AdamW, at its peak
    weight_decay: float = 0.1  # of AdamW
    cap: float = 50.0  # of the similarity scale
    scale_start: float = 1 / 0.07  # CLIP's; what is above the cap starts at the cap
    dropout: float = 0.2  # of trunk outputs; half of it for texts
    windows: int = 7  # random windows of cells per photograph, beside the whole
    label_weight: float = 4.0  # how often a labelled photograph is drawn; one with five captions: 5
    rule_weight: float = 2.0  # how often one whose captions were made by a rule is drawn
    soft: float = 1.0  # weight of like texts as positives
    soft_temperature: float = 0.07  # of the likeness that decides which texts are alike
    teacher: float = 1.0  # weight of the trunk's own classifier as a teacher
    teacher_batch: int = 256  # photographs, and as many views, a step
    density: float = 0.046  # aimed at, for training photographs; 1 = no pressure
    seed: int = 0  # of weights, order and dropout

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise SparsightError(f"density={self.density} is a share, 0 to 1", param="density")
        if self.batch < 2:
            raise SparsightError(f"batch={self.batch}: a contrast needs two pairs", param="batch")
        check_activation(self.activation, self.k, self.features)
        if self.l1 < 0:
            raise SparsightError(f"l1={self.l1} is a weight, 0 or more", param="l1")
        if self.scale_start <= 0 or self.cap <= 0:
            raise SparsightError(
                f"scale_start={self.scale_start} and cap={self.cap}: both are above 0",
                param="scale_start" if self.scale_start <= 0 else "cap",
            )
        if self.hidden < 0 or (self.hidden and self.activation != "identity"):
            raise SparsightError(
                f"hidden={self.hidden} with activation {self.activation}: a hidden layer is for "
                "the dense control, activation=identity",
                param="hidden",
            )

    @property
    def encoder(self) -> EncoderConfig:
        return EncoderConfig(
            self.features,
            self.image_trunk,
            self.text_trunk,
            activation=self.activation,
            k=self.k,
            hidden=self.hidden,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


PRESETS = {
    "mini": EncoderRun(),
    "tiny": EncoderRun(
        features=64,
        image_trunk="tiny",
        text_trunk="tiny",
        epochs=1.0,
        batch=32,
        windows=1,
        teacher=0.0,
        density=0.3,
    ),
}


def encoder_run(preset: str, settings: Mapping[str, Any]) -> EncoderRun:
    """A preset with some fields changed."""
    if preset not in PRESETS:
        raise SparsightError(f"no preset {preset!r}; known: {', '.join(PRESETS)}", param="preset")
    return override(PRESETS[preset], settings)
