"""Which concepts are evaluated."""

from collections.abc import Callable

from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from vlm.steering_evaluation.candidates import find_candidates
from vlm.steering_evaluation.side_effects import NoOp

TEXTS = ["A photo of a man.", "A man and a dog.", "A man in a truck.", "The sky."]


def test_labels_and_common_nouns_are_candidates_and_what_no_edit_can_name_is_told(
    tiny_atlas: FeatureAtlas, fake_encode_text: Callable[[list[str]], Tensor]
) -> None:
    found = find_candidates(["Cat", "zzqqy", "phantom"], TEXTS, tiny_atlas, fake_encode_text, 2)
    assert list(found.lexicons) == ["cat", "man"]  # "dog" and "truck" are said once only
    assert set(found.refused) == {"phantom", "zzqqy"}
    assert "no concept named" in found.refused["zzqqy"]
    assert "no feature" in found.refused["phantom"]


def test_words_for_the_picture_itself_are_no_candidates(
    tiny_atlas: FeatureAtlas, fake_encode_text: Callable[[list[str]], Tensor]
) -> None:
    texts = ["A photo of a thing."] * 5
    found = find_candidates(["cat"], texts, tiny_atlas, fake_encode_text, 2)
    assert "photo" not in {*found.lexicons, *found.refused}


def test_a_no_op_test_on_no_photograph_neither_holds_nor_fails() -> None:
    assert NoOp(0, 0, 0).holds is None
    assert NoOp(3, 3, 3).holds is True
    assert NoOp(3, 3, 2).holds is False
