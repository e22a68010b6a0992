"""A sparse autoencoder of others, trained on a dense encoder, as a head with features to read.

Read are Prisma's and SAELens' folders (arXiv 2504.19475; github.com/soniajoseph/ViT-Prisma): a
``.safetensors`` file with W_enc (width, features), b_enc, W_dec (features, width), b_dec, and
``cfg.json`` or ``config.json`` beside it. With x a dense vector,

    pre_code = (norm(x) - b_dec) W_enc + b_enc,    code = ReLU(pre_code), or its k largest
    decoded  = norm^-1(code W_dec + b_dec)

as in Prisma's ``SparseAutoencoder.encode_standard``; with a ``threshold`` (features,) an entry counts
above it only (JumpReLU, as SAELens writes it). Pickled weights (``.pt``) are not read: a pickle may run
code. Gated autoencoders are refused. Our own (`baselines.sae`) take the same form, see `of_trained`.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparse_encoder.activations import relu, topk
from sparse_encoder.baselines.sae import Sae
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError

_NORMS = ("none", "constant_norm_rescale", "layer_norm")
_LAYER_NORM_EPS = 1e-5  # Prisma's, added to the deviation
WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"  # SAELens' names


@dataclass(frozen=True, eq=False)
class ImportedSae:
    """The encoder half and the directions of its features. Read-only, safe to share."""

    encoder: Tensor  # (width, features)
    encoder_bias: Tensor  # (features,)
    decoder: Tensor  # (features, width)
    decoder_bias: Tensor  # (width,)
    k: int = 0  # features that a row keeps; 0: all positive ones
    normalise: str = "none"  # of _NORMS, what is done to a dense vector first
    subtract_bias: bool = True  # whether decoder_bias is taken off the input
    hook: str = ""  # where in the dense encoder it was trained, as its config says
    threshold: Tensor | None = None  # (features,) that an entry must exceed; None: 0

    @classmethod
    def load(cls, folder: Path | str) -> "ImportedSae":
        """From a folder, or its weights' file. Raises SparsightError for what is not read."""
        folder = Path(folder)
        config, weights = _read(folder)
        _refuse_kind(config, folder)
        width, features = weights["W_enc"].shape
        shapes = {"b_enc": (features,), "W_dec": (features, width), "b_dec": (width,)}
        if "threshold" in weights:
            shapes["threshold"] = (features,)
        for name, shape in shapes.items():
            if tuple(weights[name].shape) != shape:
                raise _bad(folder, f"{name} is {tuple(weights[name].shape)}, expected {shape}")
        kwargs = config.get("activation_fn_kwargs") or {}
        is_topk = config.get("activation_fn_str", config.get("activation_fn", "relu")) == "topk"
        k = kwargs.get("k", config.get("k", 0)) if is_topk else 0
        if is_topk and not (isinstance(k, int) and 1 <= k <= features):
            raise _bad(folder, f"its top-k keeps k={k!r} features, expected 1 to {features}")
        return cls(
            weights["W_enc"],
            weights["b_enc"],
            weights["W_dec"],
            weights["b_dec"],
            k,
            _norm_of(config),
            bool(config.get("apply_b_dec_to_input", True)),
            _hook_of(config),
            weights.get("threshold"),
        )

    @classmethod
    def of_trained(cls, sae: Sae, hook: str = "") -> "ImportedSae":
        """One of ours, in eval mode, in this form: its scale of x goes into weights and bias.

        It has the same codes, and decodes to the same vectors, but for rounding.
        """
        config, rule = sae.config, sae.batch_topk
        return cls(
            (sae.encoder * sae.scale).T.detach().contiguous(),
            sae.encoder_bias.detach(),
            (sae.decoder / sae.scale).detach(),
            (sae.decoder_bias / sae.scale).detach(),
            k=config.k if config.kind == "topk" else 0,
            hook=hook,
            threshold=None if rule is None else rule.threshold.expand(config.features).clone(),
        )

    def save(self, folder: Path | str) -> None:
        """Writes both files in SAELens' layout, which `load` reads back to the same bits."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            "W_enc": self.encoder,
            "b_enc": self.encoder_bias,
            "W_dec": self.decoder,
            "b_dec": self.decoder_bias,
        }
        if self.threshold is not None:
            weights["threshold"] = self.threshold
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
        kind = "topk" if self.k else "standard" if self.threshold is None else "jumprelu"
        config = {
            "architecture": kind,
            "activation_fn_str": "topk" if self.k else "relu",
            "activation_fn_kwargs": {"k": self.k} if self.k else {},
            "d_in": self.width,
            "d_sae": self.n_features,
            "normalize_activations": self.normalise,
            "apply_b_dec_to_input": self.subtract_bias,
            "hook_point": self.hook,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")

    @property
    def n_features(self) -> int:
        return len(self.encoder_bias)

    @property
    def width(self) -> int:
        return len(self.decoder_bias)

    @torch.no_grad()
    def code(self, vectors: Tensor) -> Tensor:
        """Codes (batch, features), non-negative, of dense vectors (batch, width)."""
        if vectors.shape[-1] != self.width:
            raise SparsightError(
                f"the vectors have {vectors.shape[-1]} entries, the autoencoder takes {self.width}: "
                f"it was trained on another encoder or layer ({self.hook or 'unknown'})",
                code="other_model",
            )
        x = self._normalised(vectors.float())
        if self.subtract_bias:
            x = x - self.decoder_bias
        pre_code = x @ self.encoder + self.encoder_bias
        code: Tensor = topk(pre_code, self.k) if self.k else relu(pre_code)
        return code if self.threshold is None else code * (code > self.threshold)

    @torch.no_grad()
    def moved(self, vectors: Tensor, code: Tensor, edited: Tensor) -> Tensor:
        """How far an edit moves each vector: decode(edited) - decode(code), (batch, width).

        vectors: (batch, width), of which `code` is the code; both codes (batch, features). Added to
        the vector it keeps what the autoencoder does not explain. Exactly 0 where the codes are
        equal.
        """
        moved: Tensor = (edited - code) @ self.decoder
        return moved * self._spread(vectors.float())

    def edited(self, vectors: Tensor, code: Tensor, edited: Tensor) -> Tensor:
        """Dense vectors after an edit of their codes, (batch, width); the very ones without one."""
        return vectors.float() + self.moved(vectors, code, edited)

    def _spread(self, x: Tensor) -> Tensor | float:
        """What one step in the normalised space is in the vector's own, (batch, 1)."""
        if self.normalise == "constant_norm_rescale":
            length: Tensor = x.norm(dim=-1, keepdim=True)
            return length / math.sqrt(self.width)
        if self.normalise == "layer_norm":
            return x.std(-1, keepdim=True)
        return 1.0

    def codes(self, vectors: Tensor) -> Codes:
        """Global codes of images as rows, as `build_atlas` takes them."""
        return Codes.from_dense(self.code(vectors))

    def _normalised(self, x: Tensor) -> Tensor:
        if self.normalise == "constant_norm_rescale":
            return math.sqrt(self.width) * torch.nn.functional.normalize(x, dim=-1)
        if self.normalise == "layer_norm":
            x = x - x.mean(-1, keepdim=True)
            return x / (x.std(-1, keepdim=True) + _LAYER_NORM_EPS)
        return x


class DecoderNames:
    """Stands in for a text tower when features of an imported autoencoder are named.

    A text's activation of a feature is the cosine of its dense vector with the feature's decoder
    direction, 0 where it is below (Discover-then-Name, arXiv 2407.14499). That has a meaning only
    where the autoencoder was trained in the space that images and texts share, CLIP's last one.
    """

    def __init__(self, sae: ImportedSae, encode_dense: Callable[[Sequence[str]], Tensor]) -> None:
        """encode_dense: texts to dense vectors (texts, width) of the shared space."""
        self._direction = torch.nn.functional.normalize(sae.decoder, dim=1)
        self._encode_dense = encode_dense

    @torch.no_grad()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """(texts, features), [0, 1]; give texts in blocks, as `build_atlas` does."""
        vectors = self._encode_dense(texts).float()
        if vectors.shape[-1] != self._direction.shape[1]:
            raise SparsightError(
                f"the texts have {vectors.shape[-1]} entries, the autoencoder's directions "
                f"{self._direction.shape[1]}: it was not trained in the space that texts share",
                code="other_model",
            )
        return (torch.nn.functional.normalize(vectors, dim=1) @ self._direction.T).clamp_min(0)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if folder.suffix == ".safetensors":
        folder = folder.parent
    found = [folder / name for name in ("cfg.json", "config.json") if (folder / name).is_file()]
    files = sorted(folder.glob("*.safetensors"))
    files = [path for path in files if path.name != "sparsity.safetensors"]  # SAELens' statistics
    if not found or len(files) != 1:
        raise _bad(
            folder,
            f"it needs cfg.json and one .safetensors file, found {len(found)} and {len(files)}",
        )
    try:
        config = json.loads(found[0].read_text(encoding="utf-8"))
        weights = {name: tensor.float() for name, tensor in load_file(files[0]).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise _bad(folder, str(error)) from error
    if not isinstance(config, dict):
        raise _bad(folder, f"{found[0].name} is no JSON object")
    missing = {"W_enc", "b_enc", "W_dec", "b_dec"} - weights.keys()
    if missing:
        raise _bad(folder, f"{files[0].name} lacks {', '.join(sorted(missing))}")
    if config.get("architecture") == "jumprelu" and "threshold" not in weights:
        raise _bad(folder, f"it is a jumprelu one, but {files[0].name} lacks threshold")
    if weights["W_enc"].ndim != 2:
        raise _bad(folder, f"W_enc has {weights['W_enc'].ndim} axes, expected 2")
    broken = sorted(name for name, tensor in weights.items() if not tensor.isfinite().all())
    if broken:
        raise _bad(
            folder, f"{', '.join(broken)} of {files[0].name} holds entries that are no number"
        )
    return config, weights


def _refuse_kind(config: dict[str, Any], folder: Path) -> None:
    kind = config.get("architecture", "standard")
    activation = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    if kind not in ("standard", "topk", "jumprelu") or activation not in ("relu", "topk"):
        raise _bad(
            folder,
            f"architecture {kind!r} with activation {activation!r} is not read; expected a "
            f"standard one with relu or topk, or jumprelu",
        )


def _hook_of(config: dict[str, Any]) -> str:
    if "hook_point" not in config and {"hook_point_layer", "layer_subtype"} <= config.keys():
        return f"blocks.{config['hook_point_layer']}.{config['layer_subtype']}"  # Prisma's parts
    return str(config.get("hook_point", config.get("hook_name", "")))


def _norm_of(config: dict[str, Any]) -> str:
    given = config.get("normalize_activations", "none")
    if given is False or given is None:
        return "none"
    if given not in _NORMS:
        raise SparsightError(
            f"normalize_activations is {given!r}; read are {', '.join(_NORMS)}", code="bad_sae"
        )
    return str(given)


def _bad(folder: Path, why: str) -> SparsightError:
    return SparsightError(
        f"{folder} is no autoencoder that can be imported: {why}", param="sae", code="bad_sae"
    )
