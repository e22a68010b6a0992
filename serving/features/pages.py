"""What a report or an export of a model's features is made from."""

from collections.abc import Callable, Sequence

from serving.features.opened import OpenedFeatures
from serving.photo_files import find_photos
from sparse_encoder.feature_report.pictures import TopPictures
from sparse_encoder.feature_report.rows import Neighbours
from sparse_encoder.feature_search.finder import N_NEIGHBOURS
from sparse_encoder.feature_search.neighbours import nearest_of_all, row_norms
from sparse_encoder.image import open_image


def top_pictures(
    opened: OpenedFeatures, photos: Sequence[str], on_photo: Callable[[str], None]
) -> TopPictures | None:
    """Each feature's strongest of these photographs; None where none are given.

    Raises ImageError for one that cannot be read: a report without it would rank others first.
    """
    if not photos:
        return None
    pictures = TopPictures(opened.atlas.n_features, grid=opened.encoder.grid)
    for path in find_photos(photos):
        on_photo(path)
        image = open_image(path)
        pictures.add(image.pixels, opened.encoder.encode_images([image]))
    return pictures


def head_neighbours(opened: OpenedFeatures) -> Neighbours:
    """Nearest live features of every feature, computed at once, a block of features at a time."""
    weight = opened.encoder.image_head.weight.detach()
    index, cosine = nearest_of_all(weight, row_norms(weight), N_NEIGHBOURS, ~opened.atlas.dead)

    def near(feature: int) -> list[tuple[int, float]]:
        pairs = zip(index[feature].tolist(), cosine[feature].tolist(), strict=True)
        # Fewer live features than asked for leave places without a cosine.
        return [(j, value) for j, value in pairs if value != float("-inf")]

    return near
