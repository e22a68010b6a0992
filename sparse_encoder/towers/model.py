"""The sparse CLIP model: two trunks, two projections, two wide heads, codes out."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from sparse_encoder.contrastive import similarity_scale
from sparse_encoder.head import SparseHead
from sparse_encoder.towers.config import SparseClipConfig
from sparse_encoder.towers.text import TextStates, TextTrunk, Tokens, build_text_trunk
from sparse_encoder.towers.vision import ImageStates, ImageTrunk, MiniImageTrunk, build_image_trunk

# Initial scale and bias of the logits: CLIP (Radford et al. 2021, 2.5), SigLIP (Zhai et al. 2023).
_SCALE = {"infonce": 1 / 0.07, "siglip": 10.0}
_SIGLIP_BIAS = -10.0


class SparseClipCodes(NamedTuple):
    """Codes of a batch; None where no such input was given."""

    image: Tensor | None  # (batch, features)
    text: Tensor | None  # (batch, features)


class SparseClip(nn.Module):
    """Images and texts to sparse codes of one space.

    A loss that never holds the codes takes `image_trunk_output` and `text_trunk_output` (batch,
    width) with ``image_head.weight``, ``image_head.bias`` and the text head's, and `log_scale`.
    Under DDP or FSDP, call them inside the forward of the module that is wrapped, so that its
    hooks run. Read-only in eval mode, so threads may share it.
    """

    def __init__(
        self,
        config: SparseClipConfig,
        image_trunk: ImageTrunk | MiniImageTrunk,
        text_trunk: TextTrunk,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_trunk = image_trunk
        self.text_trunk = text_trunk
        self.image_projection = _projection(image_trunk.width, config.image.projection)
        self.text_projection = _projection(text_trunk.width, config.text.projection)
        image_width = config.image.projection or image_trunk.width
        text_width = config.text.projection or text_trunk.width
        self.features = config.n_features(image_width)
        head = (self.features, config.bias, config.activation, config.k)
        self.image_head = SparseHead(image_width, *head)
        self.text_head = SparseHead(text_width, *head)
        # Shape (1,) and not (), since FSDP shards along the first axis.
        self.log_scale = nn.Parameter(torch.full((1,), math.log(_SCALE[config.loss])))
        self.logit_bias = (
            nn.Parameter(torch.full((1,), _SIGLIP_BIAS)) if config.loss == "siglip" else None
        )

    @classmethod
    def build(
        cls,
        config: SparseClipConfig,
        image_shape: dict[str, Any] | None = None,
        text_shape: dict[str, Any] | None = None,
        tokenizer: Any = None,
    ) -> "SparseClip":
        """The model that `config` asks for, in fp32 on the CPU, with fresh random heads.

        The other arguments are what a saved model holds (see `sparse_encoder.towers.hub`). The
        model's own config has filled in what the backbone decides, such as the image size.
        """
        image = build_image_trunk(config.image, image_shape)
        text = build_text_trunk(config.text, text_shape, tokenizer)
        return cls.of_trunks(config, image, text)

    @classmethod
    def of_trunks(
        cls, config: SparseClipConfig, image: ImageTrunk | MiniImageTrunk, text: TextTrunk
    ) -> "SparseClip":
        """A model of these trunks; their own configs replace those of `config`."""
        return cls(replace(config, image=image.config, text=text.config), image, text)

    @property
    def scale(self) -> Tensor:
        """The logit scale, (): exp of the learned one, at most the cap."""
        return similarity_scale(self.log_scale, self.config.cap).squeeze()

    @torch.no_grad()
    def clip_scale(self) -> None:
        """Brings the learned scale back to the cap; call it after each step, as OpenCLIP does."""
        self.log_scale.clamp_(0.0, math.log(self.config.cap))

    def image_trunk_output(self, pixels: Tensor) -> Tensor:
        """What the image head takes, (batch, width), from preprocessed pixels."""
        output: Tensor = self.image_projection(self.image_trunk(pixels).pooled)
        return output

    def text_trunk_output(self, tokens: Tokens) -> Tensor:
        """What the text head takes, (batch, width)."""
        output: Tensor = self.text_projection(self.text_trunk(tokens).pooled)
        return output

    def image_states(self, pixels: Tensor) -> ImageStates:
        """Pooled (batch, width) and patches (batch, patches, width), both as the head takes them."""
        states = self.image_trunk(pixels)
        return ImageStates(*(self.image_projection(s) for s in states))

    def text_states(self, tokens: Tokens) -> TextStates:
        """Pooled (batch, width) and tokens (batch, tokens, width), both as the head takes them."""
        states = self.text_trunk(tokens)
        return TextStates(*(self.text_projection(s) for s in states))

    def forward(
        self, pixels: Tensor | None = None, tokens: Tokens | None = None
    ) -> SparseClipCodes:
        """Codes of preprocessed images, of tokenized texts, or of both."""
        image = None if pixels is None else self.image_head(self.image_trunk_output(pixels))
        text = None if tokens is None else self.text_head(self.text_trunk_output(tokens))
        return SparseClipCodes(image, text)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Codes (images, features) of photographs, on the model's device."""
        pixels = self.image_trunk.preprocess(images).to(self.log_scale.device)
        code: Tensor = self.image_head(self.image_trunk_output(pixels))
        return code

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Codes (texts, features), on the model's device."""
        ids, mask = (t.to(self.log_scale.device) for t in self.text_trunk.tokenize(texts))
        code: Tensor = self.text_head(self.text_trunk_output(Tokens(ids, mask)))
        return code


def _projection(width: int, projection: int) -> nn.Module:
    """CLIP's map to the joint width: no bias, deviation width^-0.5; the identity for 0."""
    if not projection:
        return nn.Identity()
    linear = nn.Linear(width, projection, bias=False)
    nn.init.normal_(linear.weight, std=width**-0.5)
    return linear
