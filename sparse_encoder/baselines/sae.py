"""Post-hoc sparse autoencoders of dense codes: ReLU with L1, TopK, Matryoshka BatchTopK.

With x a dense code, W_e, W_d the encoder's and decoder's weights and b_d the decoder's bias:

    pre_code = W_e (x - b_d) + b_e,   code = activation(pre_code),   x' = W_d code + b_d

Decoder directions have length 1: without that, L1 is bought by long directions and short codes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_encoder.activations import BatchTopK, relu, topk
from sparse_encoder.errors import SparsightError

KINDS = ("relu_l1", "topk", "matryoshka_batch_topk")


@dataclass(frozen=True)
class SaeConfig:
    """One autoencoder and its training."""

    kind: str  # one of KINDS
    features: int
    k: int = 64  # kept features a row (on average for the batch rule); unused by relu_l1
    l1: float = 0.02  # relu_l1: weight of the l1 norm beside the squared error, in x's own scale
    nested: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # Matryoshka: shares of features
    revival: float = 1 / 32  # weight of the error that dead features explain (Gao et al. 2024)
    dead_after: int = 50  # steps without activation after which a feature counts as dead
    steps: int = 400
    batch: int = 512
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SparsightError(
                f"kind {self.kind!r}: expected one of {', '.join(KINDS)}", param="kind"
            )
        if self.kind != "relu_l1" and not 1 <= self.k <= self.features:
            raise SparsightError(
                f"k={self.k}: expected 1 to {self.features}, the number of features", param="k"
            )
        if list(self.nested) != sorted({*self.nested}) or self.nested[-1:] != (1.0,):
            raise SparsightError(
                f"nested={self.nested}: expected rising shares of the features, the last 1.0",
                param="nested",
            )

    @property
    def prefixes(self) -> list[int]:
        """Numbers of leading features that reconstruct on their own; all of them at the end."""
        if self.kind != "matryoshka_batch_topk":
            return [self.features]
        return sorted({max(1, round(share * self.features)) for share in self.nested})


class Sae(nn.Module):
    """Dense codes (batch, width) to sparse ones (batch, features) and back. Read-only once trained.

    Works on x scaled so that entries have deviation about 1 (`fit_scale`), whatever x's length.
    """

    scale: Tensor

    def __init__(self, width: int, config: SaeConfig) -> None:
        super().__init__()
        self.config = config
        directions = nn.functional.normalize(torch.randn(config.features, width), dim=1)
        self.decoder = nn.Parameter(directions)  # (features, width), rows of length 1
        self.decoder_bias = nn.Parameter(torch.zeros(width))
        self.encoder = nn.Parameter(directions.clone())  # tied at the start (Gao et al. 2024)
        self.encoder_bias = nn.Parameter(torch.zeros(config.features))
        self.register_buffer("scale", torch.ones(1))
        self.batch_topk = BatchTopK(config.k) if config.kind == "matryoshka_batch_topk" else None

    @torch.no_grad()
    def fit_scale(self, x: Tensor) -> None:
        """Scale and decoder bias from the training rows (rows, width)."""
        deviation = (x - x.mean(0)).square().mean().sqrt()
        self.scale.fill_(float(1 / deviation.clamp_min(1e-12)))
        self.decoder_bias.copy_(x.mean(0) * self.scale)

    def pre_code(self, x: Tensor) -> Tensor:
        """x scaled, see `fit_scale`: (batch, width) -> (batch, features)."""
        return (x - self.decoder_bias) @ self.encoder.T + self.encoder_bias

    def activate(self, pre_code: Tensor) -> Tensor:
        """The code of a pre_code (batch, features), non-negative."""
        if self.config.kind == "relu_l1":
            return relu(pre_code)
        if self.batch_topk is None:
            return topk(pre_code, self.config.k)
        code: Tensor = self.batch_topk(pre_code)
        return code

    def expand(self, code: Tensor, n: int | None = None) -> Tensor:
        """What the first `n` features (None: all) say of scaled x: (batch, width)."""
        return code[:, :n] @ self.decoder[:n] + self.decoder_bias

    def forward(self, x: Tensor) -> Tensor:
        """Codes (batch, features) of dense codes in their own scale."""
        return self.activate(self.pre_code(x * self.scale))

    def decode(self, code: Tensor) -> Tensor:
        """Dense codes (batch, width) in their own scale."""
        return self.expand(code) / self.scale

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        self.decoder.copy_(nn.functional.normalize(self.decoder, dim=1))

    @torch.no_grad()
    def drop_radial_gradient(self) -> None:
        """Leaves of the decoder's gradient what is orthogonal to each direction.

        The rest would only be undone by `normalise_decoder`, yet count in Adam's averages.
        """
        gradient = self.decoder.grad
        if gradient is not None:
            gradient -= (gradient * self.decoder).sum(1, keepdim=True) * self.decoder


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean over the batch of |x - x'|^2 / width, so 1 is what the mean alone would leave."""
    return (x - reconstruction).square().mean()


def l1_loss(sae: Sae, x: Tensor, code: Tensor) -> Tensor:
    """|x - x'|^2 + l1 |code|_1, both by width. Bricken et al. 2023, "Towards Monosemanticity"."""
    norm = code.sum(1).mean() / x.shape[1]
    return squared_error(x, sae.expand(code)) + sae.config.l1 * norm


def nested_loss(sae: Sae, x: Tensor, code: Tensor) -> Tensor:
    """Sum over prefixes m of |x - x'_m|^2 with x'_m from the first m features alone.

    Bussmann et al. 2025, arXiv 2503.17547. The first features must do without the later ones, so
    they stay general. With one prefix, all features, it is the plain squared error of TopK
    (Gao et al. 2024, arXiv 2406.04093).
    """
    errors = [squared_error(x, sae.expand(code, m)) for m in sae.config.prefixes]
    return torch.stack(errors).sum()


def revival_loss(sae: Sae, x: Tensor, pre_code: Tensor, code: Tensor, dead: Tensor) -> Tensor:
    """|e - e'|^2 with e = x - x' and e' from the dead features' largest entries alone.

    dead: (features,) bool. Gao et al. 2024 (AuxK): as many dead features as half the width are let
    through, so that they get a gradient where the top-k rule gives them none.
    """
    error = (x - sae.expand(code)).detach()
    among = pre_code[:, dead]
    kept = topk(among, min(max(1, x.shape[1] // 2), among.shape[1]))
    return squared_error(error, kept @ sae.decoder[dead])
