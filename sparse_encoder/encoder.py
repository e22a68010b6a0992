"""The sparse encoder: two frozen trunks, two sparse heads, codes out."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.image import DecodedImage
from sparse_encoder.image_trunk import EfficientNetLite
from sparse_encoder.mini_parts import IMAGE_TRUNK_PART, TEXT_TRUNK_PART
from sparse_encoder.parts import ensure_part
from sparse_encoder.text_trunk import SentenceTrunk
from sparse_encoder.tiny import TinyImageTrunk, TinyTextTrunk
from sparse_encoder.torch_threads import settle_torch_threads
from sparse_encoder.wheel import Progress

WEIGHTS = "encoder.safetensors"


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is built from."""

    features: int = 4096  # width of the codes
    image_trunk: str = "efficientnet-lite2"  # or "tiny": random, for tests
    text_trunk: str = "all-minilm-l6-v2"  # or "tiny"
    activation: str = "relu"
    k: int = 0  # features that a row keeps, for the two top-k rules alone
    hidden: int = 0  # width of a layer before the last projection; dense heads only, 0: none

    def __post_init__(self) -> None:
        if self.features < 1:
            raise SparsightError(f"features={self.features}: a code needs at least one feature")


class SparseEncoder(nn.Module):
    """Images and texts to codes of one space. Read-only once loaded, so threads may share it."""

    def __init__(
        self,
        config: EncoderConfig,
        image_trunk: EfficientNetLite | TinyImageTrunk,
        text_trunk: SentenceTrunk | TinyTextTrunk,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_trunk = image_trunk
        self.text_trunk = text_trunk
        self.image_head, self.text_head = (
            SparseHead(
                trunk.width,
                config.features,
                activation=config.activation,
                k=config.k,
                hidden=config.hidden,
            )
            for trunk in (image_trunk, text_trunk)
        )

    @property
    def grid(self) -> tuple[int, int]:
        return self.image_trunk.grid

    @classmethod
    def build(cls, config: EncoderConfig, progress: Progress | None = None) -> "SparseEncoder":
        """Real trunks (assembled where missing), fresh random heads."""
        image, text = config.image_trunk, config.text_trunk
        if (image, text) == ("tiny", "tiny"):
            return cls(config, TinyImageTrunk(), TinyTextTrunk()).eval()
        if (image, text) != (IMAGE_TRUNK_PART.name, TEXT_TRUNK_PART.name):
            raise SparsightError(
                f"no trunks ({image!r}, {text!r}) are known; expected "
                f"({IMAGE_TRUNK_PART.name!r}, {TEXT_TRUNK_PART.name!r}) or ('tiny', 'tiny')"
            )
        image_trunk = EfficientNetLite.load(ensure_part(IMAGE_TRUNK_PART, progress=progress))
        text_trunk = SentenceTrunk(ensure_part(TEXT_TRUNK_PART, progress=progress))
        return cls(config, image_trunk, text_trunk).eval()

    @classmethod
    def load(cls, folder: Path, progress: Progress | None = None) -> "SparseEncoder":
        """From a model folder: ``config.json`` (key ``encoder``) and ``encoder.safetensors``.

        With a key ``sae`` the codes are an autoencoder's (see `sae_encoder`).
        """
        if "sae" in json.loads((folder / "config.json").read_text()):
            from sparse_encoder.sae_encoder import SaeEncoder  # which builds on this class

            return SaeEncoder.load_imported(folder, progress)
        return cls.load_heads(folder, progress)

    @classmethod
    def load_heads(cls, folder: Path, progress: Progress | None = None) -> "SparseEncoder":
        """Heads and trunks alone, whatever else the folder holds."""
        entry = json.loads((folder / "config.json").read_text())["encoder"]
        if "folder" in entry:
            raise SparsightError(
                f"the encoder of {folder} is of whole towers, in {folder / entry['folder']}; this is "
                "for encoders of heads on frozen trunks",
                param="model",
            )
        config = EncoderConfig(**entry)
        encoder = cls.build(config, progress)
        heads = load_file(folder / WEIGHTS)
        encoder.load_state_dict({k: v.float() for k, v in heads.items()}, strict=False)
        missing = {k for k in encoder.state_dict() if "_head." in k} - heads.keys()
        if missing:
            raise SparsightError(f"{folder / WEIGHTS} lacks {sorted(missing)}; train it again")
        return encoder

    def save_heads(self, folder: Path) -> None:
        """Writes the trained heads in fp16; the trunks are assembled, not saved."""
        heads = {k: v.half() for k, v in self.state_dict().items() if "_head." in k}
        save_file({k: v.contiguous() for k, v in heads.items()}, folder / WEIGHTS)

    def config_json(self) -> dict[str, object]:
        return asdict(self.config)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[DecodedImage]) -> Codes:
        """One global code and the cells' codes for each image.

        Images pass the trunk one by one: a convolution's last bits may depend on the batch it
        runs in, and a receipt must be recomputable from one photograph alone.
        """
        settle_torch_threads()
        codes = []
        for image in images:
            cells = self.image_trunk(self.image_trunk.preprocess([image.pixels]))[0]
            codes.append(self.code_of_cells(cells))
        return Codes.cat(codes)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Pixels of one RGB photograph, as the trunk takes them, without the batch axis."""
        return self.image_trunk.preprocess([image])[0]

    @torch.no_grad()
    def codes_of_pixels(self, pixels: Tensor) -> Codes:
        """Codes of preprocessed photographs (images, 3, height, width), one by one as above.

        A dense head's codes hold every feature, of either sign.
        """
        settle_torch_threads()
        dense = self.image_head.activation == "identity"
        code = self._code if dense else self.code_of_cells
        return Codes.cat([code(self.image_trunk(one[None])[0]) for one in pixels])

    def code_of_cells(self, cells: Tensor, moved: Tensor | None = None) -> Codes:
        """Codes of one image from its trunk cells (cells, width).

        moved: (1 + cells, width), added to the mean of the cells and to each of them first; a row of
        zeros leaves its code bit for bit. Raises SparsightError for a dense head, whose negative
        entries rows of codes cannot hold.
        """
        if self.image_head.activation == "identity":
            raise SparsightError(
                "this encoder's heads are dense (activation identity), so it has no sparse codes; "
                "evaluate it, or train one with activation relu",
                param="model",
            )
        return self._code(cells, moved)

    def _code(self, cells: Tensor, moved: Tensor | None = None) -> Codes:
        return head_codes(self.image_head, cells, self.grid, moved)

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """Dense codes (texts, features); for many texts call it in blocks."""
        settle_torch_threads()
        code: Tensor = self.text_head(self.text_trunk(texts))
        return code


def head_codes(
    head: SparseHead, cells: Tensor, grid: tuple[int, int], moved: Tensor | None = None
) -> Codes:
    """A head's codes of one image from its trunk cells; arguments as for `code_of_cells`."""
    # One layout: a product of matrices sums in another order for another, and last bits differ.
    pre_code = head.pre_code(cells.float().contiguous())  # (cells, features)
    rows = torch.cat([pre_code.mean(0, keepdim=True), pre_code])
    if moved is not None:  # the head is affine, so a pre-code moves by the weight alone
        rows = rows + moved @ head.weight.T
    return Codes.from_dense(head.activate(rows), grid)
