"""The report on an encoder as plain numbers: what ``report.json`` holds, and a table of it."""

from dataclasses import asdict, dataclass
from typing import Any

from sparse_encoder.evaluation.box_classification import BoxAccuracy
from sparse_encoder.evaluation.clarity import Clarity
from sparse_encoder.evaluation.histogram import Histogram
from sparse_encoder.evaluation.modality import Modality
from sparse_encoder.evaluation.monosemanticity import MonoSemanticity
from sparse_encoder.evaluation.sparsity import Sparsity


@dataclass(frozen=True)
class ZeroShot:
    """Shares in [0, 1] of one set with one set of templates, and what guessing would get."""

    templates: str
    n_classes: int
    top1: float
    top5: float
    chance_top1: float
    chance_top5: float


@dataclass(frozen=True)
class Retrieval:
    """R@k in [0, 1], keys ``t2i@1``, ``i2t@1`` and so on, and what a random order would get."""

    n_texts: int
    recall: dict[str, float]
    chance: dict[str, float]


@dataclass(frozen=True)
class SetMeasures:
    """Of one set of photographs."""

    n_images: int
    sparsity: list[Sparsity]  # at each threshold
    zeroshot: list[ZeroShot]  # with each set of templates; empty without labels
    retrieval: Retrieval | None  # None without captions


@dataclass(frozen=True)
class EncoderMeasures:
    """The report. Every figure names its set; `limits` says what the figures do not."""

    encoder: dict[str, Any]
    sets: dict[str, SetMeasures]
    boxes: dict[str, BoxAccuracy]  # by templates; empty where there are no annotations
    n_images: int  # of all sets together, as in what follows
    n_texts: int
    image_sparsity: list[Sparsity]
    text_sparsity: list[Sparsity]  # empty without captions
    density: Histogram  # of features: share of images with an activation above 0
    modality: Modality | None  # None without captions, and for codes with negative entries
    embedding: str  # that judges what follows
    clarity: list[Clarity]
    clarity_scores: Histogram  # of features with at least 2 images
    monosemanticity: MonoSemanticity
    monosemanticity_scores: Histogram
    limits: list[str]
    made_with: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values that JSON holds exactly; no NaN is among them."""
        return asdict(self)

    def table(self) -> str:
        """Shares in per cent, one line a measure."""
        lines = [
            f"{self.n_images} images, {self.n_texts} texts, {self.encoder['features']} features"
        ]
        for name, one in self.sets.items():
            if one.retrieval is not None:
                for way, words in (("t2i", "text to image"), ("i2t", "image to text")):
                    recalls = ", ".join(
                        f"R@{key.split('@')[1]} {100 * share:.1f}"
                        for key, share in one.retrieval.recall.items()
                        if key.startswith(way)
                    )
                    lines.append(f"{name} ({one.n_images} images), {words}: {recalls}")
        lines.append("set            images  templates    top-1   top-5   chance")
        for name, one in self.sets.items():
            lines += [
                f"{name:14} {one.n_images:6}  {z.templates:10} {100 * z.top1:7.1f} "
                f"{100 * z.top5:7.1f} {100 * z.chance_top1:8.2f}"
                for z in one.zeroshot
            ]
        for templates, box in self.boxes.items():
            lines.append(
                f"{'boxes':14} {box.n_boxes:6}  {templates:10} {100 * box.top1:7.1f} "
                f"{100 * box.top5:7.1f} {100 * box.chance_top1:8.2f}"
            )
        for words, all_of in (("images", self.image_sparsity), ("texts", self.text_sparsity)):
            lines += [
                f"{words}, threshold {s.threshold:g}: L0 {s.l0:.1f} ({100 * s.density:.2f} %), "
                f"{s.active_features} features active on {s.min_inputs} or more, "
                f"{s.dead_features} dead"
                for s in all_of
            ]
        lines += [self._clarity_line(c) for c in self.clarity]
        mono = self.monosemanticity
        lines.append(f"MonoSemanticity {_number(mono.mean)} over {mono.n_features} features")
        if self.modality is not None and self.modality.multimodal_share is not None:
            lines.append(
                f"multimodal features: {100 * self.modality.multimodal_share:.1f} per cent"
            )
        return "\n".join(lines)

    def _clarity_line(self, clarity: Clarity) -> str:
        return (
            f"Clarity {_number(clarity.mean)} over {clarity.n_features} features with "
            f"{clarity.min_images} images or more; baseline {_number(clarity.baseline)}, "
            f"lift {_number(clarity.lift)}"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
