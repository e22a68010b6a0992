"""A model opened for its features alone: encoder and atlas, no language model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.photo_files import find_photos
from sparse_encoder.any_encoder import AnyEncoder, load_encoder
from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.feature_search import FeatureFinder
from sparse_encoder.features.top_images_file import TopImages, read_top_images
from sparse_encoder.image import open_image
from sparse_encoder.wheel import Progress
from vlm.model_folder import read_encoder_model


@dataclass(frozen=True)
class OpenedFeatures:
    """What the feature commands work with."""

    name: str
    encoder: AnyEncoder
    atlas: FeatureAtlas
    finder: FeatureFinder
    top_images: TopImages | None = None  # None where the atlas came without

    def codes(self, photos: Iterable[str]) -> Iterator[Codes]:
        """Codes of each photograph, folders searched to the bottom; raises ImageError for a bad one."""
        for path in find_photos(photos):
            yield self.encoder.encode_images([open_image(path)])


def open_features(model: str | Path, progress: Progress | None = None) -> OpenedFeatures:
    """The model of that name or folder. Raises SparsightError where its atlas is another model's."""
    folder = read_encoder_model(model)
    atlas = FeatureAtlas.load(folder.path / "features", fingerprint=folder.fingerprint)
    encoder = load_encoder(folder.path, progress)
    finder = FeatureFinder(
        atlas,
        encode_texts=encoder.encode_texts,
        head_weight=encoder.image_head.weight.detach(),
    )
    top_images = read_top_images(folder.path / "features", folder.fingerprint)
    return OpenedFeatures(folder.name, encoder, atlas, finder, top_images)
