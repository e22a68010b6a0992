"""The plain losses that the chunked ones are compared with: codes and similarities in full."""

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.open_clip_code import open_clip_module
from sparse_encoder.contrastive import unit
from sparse_encoder.head import SparseHead


def plain_infonce(
    image: Tensor, text: Tensor, image_head: SparseHead, text_head: SparseHead, scale: Tensor
) -> Tensor:
    logits = scale * unit(image_head(image)) @ unit(text_head(text)).T
    target = torch.arange(len(logits))
    return (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2


def plain_siglip(
    image: Tensor,
    text: Tensor,
    image_head: SparseHead,
    text_head: SparseHead,
    scale: Tensor,
    offset: Tensor,
) -> Tensor:
    logits = scale * unit(image_head(image)) @ unit(text_head(text)).T + offset
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    return -functional.logsigmoid(sign * logits).sum() / len(logits)


def open_clip_losses() -> ModuleType:
    """open_clip's losses."""
    return open_clip_module("loss")


def relative_error(ours: Tensor | None, theirs: Tensor | None) -> float:
    """Length of the difference over the length of `theirs`; 0 where both are all zero."""
    assert ours is not None and theirs is not None
    assert torch.isfinite(ours).all()
    difference = (ours.double() - theirs.double()).norm()
    return float(difference / theirs.double().norm()) if difference else 0.0


class Pairs(nn.Module):
    """Leaves of one loss: trunk outputs of both sides, two heads, the log scale and the offset."""

    def __init__(
        self,
        n: int,
        widths: tuple[int, int],
        features: int,
        seed: int = 0,
        activation: str = "relu",
        n_empty: int = 0,
    ) -> None:
        """n_empty: rows of either side that get an empty code, as zero does under biases < 0."""
        super().__init__()
        torch.manual_seed(seed)
        self.image = nn.Parameter(torch.randn(n, widths[0]))
        self.text = nn.Parameter(torch.randn(n, widths[1]))
        self.image_head = SparseHead(widths[0], features, -0.3, activation)
        self.text_head = SparseHead(widths[1], features, -0.5, activation)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.offset = nn.Parameter(torch.tensor(-3.0))
        with torch.no_grad():
            self.image[:n_empty] = 0
            self.text[n - n_empty :] = 0

    @property
    def sides(self) -> tuple[Tensor, Tensor, SparseHead, SparseHead]:
        return self.image, self.text, self.image_head, self.text_head

    def gradients(self, loss: Tensor) -> dict[str, Tensor | None]:
        """Of every leaf; None where the loss does not depend on it."""
        self.zero_grad()
        loss.backward()
        return {name: leaf.grad for name, leaf in self.named_parameters()}
