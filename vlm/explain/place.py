"""Where a feature, or what a concept is made of, is active in a photograph."""

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from sparse_encoder.locate import CellMap, cell_map, refuse_no_feature
from vlm.concepts import resolve
from vlm.edits import DEFAULT_K, Edit
from vlm.pipeline import Pipeline


def locate(
    pipeline: Pipeline,
    image: DecodedImage,
    *,
    feature: int | None = None,
    concept: str | None = None,
    k: int = DEFAULT_K,
) -> CellMap:
    """The cell map of one feature, or of the `k` features with the strongest claim to a concept.

    Raises SparsightError, `param` the bare key, unless exactly one of the two is given, and where
    steering would refuse it.
    """
    try:
        # An edit that is never applied: what can be steered can be located, by the same features.
        edit = Edit("ablate", concept, feature, k=None if concept is None else k)
        if feature is not None:
            refuse_no_feature(feature, pipeline.n_features)
        (found,) = resolve([edit], pipeline.atlas, pipeline.encoder.encode_texts, param="edits")
    except SparsightError as error:
        key = (error.param or "").rpartition(".")[2] or None
        raise SparsightError(error.message, param=key, code=error.code) from None
    return cell_map(pipeline.encode([image]), found.features)
