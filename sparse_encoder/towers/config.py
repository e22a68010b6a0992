"""What a sparse CLIP model is built from: two trunks, their projections, two wide heads, a loss."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sparse_encoder.activations import check_activation
from sparse_encoder.errors import SparsightError

IMAGE_FAMILIES = ("clip", "siglip", "dinov2", "vit")
MINI_IMAGE_TRUNK = "efficientnet-lite2"
MINI_TEXT_TRUNK = "all-minilm-l6-v2"
TEXT_FAMILIES = ("clip",)


@dataclass(frozen=True)
class ImageTowerConfig:
    """The image trunk. `width` to `gelu` shape a family; a named backbone brings its own shape."""

    backbone: str = "clip"
    """A family with random weights (clip, siglip, dinov2, vit), "efficientnet-lite2" (the mini
    trunk), or the hub name or the folder of a model that transformers knows."""
    pretrained: bool = True  # False: random weights in the named backbone's shape
    width: int = 768  # of the hidden states
    layers: int = 12  # of the transformer
    heads: int = 12  # of attention, in each layer
    mlp_ratio: float = 4.0  # width of the MLP / width
    patch: int = 32  # side of a patch, pixels
    size: int = 224  # side of the image, pixels
    gelu: str = "gelu"  # "quick_gelu" for OpenAI's and MetaCLIP's weights
    pool: str = "own"  # the backbone's own pooled vector, or "mean": the mean of the patches
    projection: int = 512  # width that a bias-free linear map gives the pooled vector; 0: no map
    frozen: bool = False  # not trained
    mean: tuple[float, ...] = ()  # of red, green, blue in [0, 1]; empty: the backbone's own
    deviation: tuple[float, ...] = ()  # as `mean`

    def __post_init__(self) -> None:
        if self.pool not in ("own", "mean"):
            raise SparsightError(
                f"image.pool={self.pool!r}: expected own or mean", param="image.pool"
            )
        if self.projection < 0:
            raise SparsightError(
                f"image.projection={self.projection}: expected a width, or 0 for none",
                param="image.projection",
            )
        if (len(self.mean), len(self.deviation)) not in ((0, 0), (3, 3)):
            raise SparsightError(
                f"image.mean={self.mean}, image.deviation={self.deviation}: expected three numbers "
                "each, or none for the backbone's own",
                param="image.mean",
            )
        if self.backbone == MINI_IMAGE_TRUNK and not self.frozen:
            raise SparsightError(
                f"the image trunk {MINI_IMAGE_TRUNK} does not train; set image.frozen to true",
                param="image.frozen",
            )
        if self.backbone in IMAGE_FAMILIES:
            _check_shape("image", self.width, self.layers, self.heads)
            if self.patch < 1 or self.size % self.patch:
                raise SparsightError(
                    f"image.size={self.size} is no multiple of image.patch={self.patch}",
                    param="image.size",
                )


@dataclass(frozen=True)
class TextTowerConfig:
    """The text trunk and its tokenizer."""

    backbone: str = "clip"
    """"clip" for CLIP's text transformer with random weights, "all-minilm-l6-v2" (the mini trunk),
    or the hub name or the folder of a sentence encoder or of a causal language model."""
    pretrained: bool = True  # False: random weights in the named backbone's shape
    width: int = 512  # of the hidden states; up to `gelu` for the family clip alone
    layers: int = 12  # of the transformer
    heads: int = 8  # of attention, in each layer
    mlp_ratio: float = 4.0  # width of the MLP / width
    gelu: str = "gelu"  # as for images
    max_tokens: int = 77  # longer texts are cut
    pool: str = "last"
    """"last": the last real token, which for CLIP is its end mark, and for a causal language model
    the only one that has read the whole text; "mean": the mean over real tokens."""
    tokenizer: str = ""
    """Empty: the backbone's own. "clip": CLIP's vocabulary, from the wheel of open_clip. "bytes": a
    token a byte, needs no file. Or the name or folder of a tokenizer (see `train_tokenizer`)."""
    projection: int = 512  # as for images
    frozen: bool = False  # not trained

    def __post_init__(self) -> None:
        if self.pool not in ("last", "mean"):
            raise SparsightError(
                f"text.pool={self.pool!r}: expected last or mean", param="text.pool"
            )
        if self.max_tokens < 2:
            raise SparsightError(
                f"text.max_tokens={self.max_tokens}: expected at least 2", param="text.max_tokens"
            )
        if self.projection < 0:
            raise SparsightError(
                f"text.projection={self.projection}: expected a width, or 0 for none",
                param="text.projection",
            )
        if self.backbone in TEXT_FAMILIES:
            _check_shape("text", self.width, self.layers, self.heads)
            if not self.tokenizer:
                raise SparsightError(
                    "text.tokenizer is empty, and a text transformer from scratch has none of its "
                    "own; give clip, bytes, or the folder of a tokenizer",
                    param="text.tokenizer",
                )


@dataclass(frozen=True)
class SparseClipConfig:
    """A sparse CLIP: two changes to CLIP, the width and the ReLU (arXiv 2601.20075, 1.2)."""

    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = field(default_factory=lambda: TextTowerConfig(tokenizer="clip"))
    expansion: float = 32.0  # features / width of the image head's input
    features: int = 0  # width of the codes; 0: given by `expansion`
    activation: str = "relu"  # or topk, batch_topk, identity
    k: int = 0  # features that topk and batch_topk keep a row
    bias: float = 0.0  # initial bias of every feature
    l1: float = 0.0  # weight of the unit codes' l1 norm in the loss
    loss: str = "infonce"  # or siglip
    cap: float = 100.0  # of the logit scale; a lower cap gives sparser codes

    def __post_init__(self) -> None:
        if self.loss not in ("infonce", "siglip"):
            raise SparsightError(f"loss={self.loss!r}: expected infonce or siglip", param="loss")
        if self.cap < 1:
            raise SparsightError(f"cap={self.cap}: expected 1 or more", param="cap")
        if self.l1 < 0:
            raise SparsightError(f"l1={self.l1}: expected 0 or more", param="l1")
        if self.features < 0 or (not self.features and self.expansion <= 0):
            raise SparsightError(
                f"features={self.features}, expansion={self.expansion}: expected a number of "
                "features above 0, or 0 and an expansion above 0",
                param="features",
            )
        if self.features:
            check_activation(self.activation, self.k, self.features)

    def n_features(self, width: int) -> int:
        """Features of a code, for heads whose image input has `width` entries."""
        return self.features or round(self.expansion * width)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SparseClipConfig":
        """The config that `to_json` gave; raises SparsightError for keys it does not know."""
        try:
            image = dict(data["image"])
            for name in ("mean", "deviation"):  # JSON knows no tuples
                image[name] = tuple(image[name])
            towers = {"image": ImageTowerConfig(**image), "text": TextTowerConfig(**data["text"])}
            return cls(**{**data, **towers})
        except (KeyError, TypeError) as error:
            raise SparsightError(
                f"this is no configuration of a sparse CLIP model: {error}; expected what "
                "SparseClipConfig.to_json gives",
                param="config",
            ) from error


def _check_shape(tower: str, width: int, layers: int, heads: int) -> None:
    if min(width, layers, heads) < 1 or width % heads:
        raise SparsightError(
            f"{tower}.width={width}, {tower}.layers={layers}, {tower}.heads={heads}: expected "
            "numbers above 0, and a width that the heads divide",
            param=f"{tower}.width",
        )
