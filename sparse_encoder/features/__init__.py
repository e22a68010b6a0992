"""The feature atlas built in one resumable run: names, pictures, neighbours, and a test of names."""

from sparse_encoder.features.build import AtlasSettings, build_features
from sparse_encoder.features.words import WordForms, read_text_lines, read_word_list

__all__ = ["AtlasSettings", "WordForms", "build_features", "read_text_lines", "read_word_list"]
