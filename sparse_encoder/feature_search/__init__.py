"""Features found by words, by example images and by each other; no image is held, only counts."""

from sparse_encoder.feature_search.finder import FeatureFinder, FeaturePage

__all__ = ["FeatureFinder", "FeaturePage"]
