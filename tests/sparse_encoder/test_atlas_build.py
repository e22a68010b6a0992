"""The streamed statistics equal those over everything at once; names come from the best words."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder import atlas_build
from sparse_encoder.atlas_build import ImageStats, build_atlas
from sparse_encoder.codes import Codes

N_FEATURES = 6


class WordEncoder:
    """The code of a text is the sum over its words; unknown words have none."""

    def __init__(self, words: dict[str, list[float]]) -> None:
        self.words = words
        self.largest = 0

    def encode_texts(self, texts: list[str]) -> Tensor:
        self.largest = max(self.largest, len(texts))
        rows = []
        for text in texts:
            known = [self.words[w] for w in text.strip(".").split() if w in self.words]
            rows.append(torch.tensor([[0.0] * N_FEATURES, *known]).sum(0))
        return torch.stack(rows)


WORDS = {
    "dog": [3.0, 0, 0, 0, 0, 0],
    "hound": [2.0, 0, 0, 0, 0, 0],
    "cat": [0, 4.0, 0, 0, 0, 0.5],
    "pet": [1.0, 1.0, 0, 0, 0, 0],
    "Paris": [0, 0, 0, 2.0, 0, 0],
}


def random_rows(seed: int, n: int) -> Tensor:
    rows = torch.randn(n, N_FEATURES, generator=torch.Generator().manual_seed(seed)).relu()
    rows[:, 4] = 0.0  # a dead feature
    return rows


def batches(rows: Tensor, size: int) -> list[Codes]:
    return [Codes.from_dense(block) for block in rows.split(size)]


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 60), size=st.integers(1, 20))
def test_streamed_statistics_equal_those_of_all_images_at_once(
    seed: int, n: int, size: int
) -> None:
    rows = random_rows(seed, n)
    atlas = build_atlas(
        WordEncoder(WORDS), batches(rows, size), list(WORDS), fingerprint="f", reservoir=64
    )
    values = rows.numpy()
    for i in range(N_FEATURES):
        active = values[values[:, i] > 0, i]
        assert atlas.density[i] == pytest.approx(len(active) / n)
        for key, q in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)):
            expected = np.percentile(active, q) if len(active) else 0.0
            assert getattr(atlas, key)[i] == pytest.approx(expected, rel=1e-5)
    assert atlas.dead[4]


def test_cells_do_not_count() -> None:
    rows = torch.zeros(2, N_FEATURES)
    rows[0, 0], rows[1] = 2.0, 9.0  # one image: global code, one cell
    atlas = build_atlas(
        WordEncoder(WORDS), [Codes.from_dense(rows, (1, 1))], ["dog"], fingerprint="f"
    )
    assert atlas.density.tolist() == [1, 0, 0, 0, 0, 0]
    assert atlas.max[0] == 2.0


def test_a_full_reservoir_stays_a_fair_sample() -> None:
    n, size = 20_000, 500
    rows = torch.zeros(n, N_FEATURES)
    rows[:, 0] = torch.arange(1, n + 1) / n  # rising, so that a biased sample would show
    stats = ImageStats(N_FEATURES, size=size)
    for codes in batches(rows, 700):
        stats.add(codes)
    assert stats.sample.shape == (N_FEATURES, size)
    assert len(set(stats.sample[0].tolist())) == size  # nothing is kept twice
    assert float(stats.percentile(0.5)[0]) == pytest.approx(0.5, abs=0.07)  # 3 standard errors
    assert float(stats.percentile(0.99)[0]) == pytest.approx(0.99, abs=0.015)
    assert float(stats.max[0]) == 1.0


def test_names_are_the_words_with_the_largest_text_activation() -> None:
    atlas = build_atlas(
        WordEncoder(WORDS), batches(random_rows(0, 4), 4), list(WORDS), fingerprint="f"
    )
    assert atlas.names == ["dog", "cat", "", "Paris", "", "cat"]
    assert atlas.runner_up == [["hound", "pet"], ["pet"], [], [], [], []]
    assert atlas.name_score.tolist() == [3.0, 4.0, 0.0, 2.0, 0.0, 0.5]


@given(block=st.integers(1, 7))
def test_words_in_blocks_give_the_same_names(block: int) -> None:
    words = [f"w{i}" for i in range(12)]
    random = torch.rand(12, N_FEATURES, generator=torch.Generator().manual_seed(1))
    encoder = WordEncoder(dict(zip(words, random.tolist(), strict=True)))
    images = batches(random_rows(0, 4), 4)
    whole = build_atlas(encoder, images, words, fingerprint="f")
    encoder.largest = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas_build, "WORD_BLOCK", block)
        parts = build_atlas(encoder, images, words, fingerprint="f")
    assert encoder.largest <= 2 * block  # two templates
    assert (parts.names, parts.runner_up) == (whole.names, whole.runner_up)
    assert np.allclose(parts.modality, whole.modality)
    assert [len(row) for row in whole.runner_up] == [4] * N_FEATURES
    order = random[:, 0].argsort(descending=True)[:5].tolist()
    assert [whole.names[0], *whole.runner_up[0]] == [words[i] for i in order]


def test_modality_is_the_image_share_of_the_mean_activations() -> None:
    rows = torch.zeros(2, N_FEATURES)
    rows[:, 0] = torch.tensor([1.0, 2.0])  # mean 1.5
    rows[:, 2] = 1.0
    atlas = build_atlas(
        WordEncoder(WORDS),
        batches(rows, 1),
        ["dog"],
        fingerprint="f",
        captions=["a dog.", "a cat and a dog and a dog.", "nothing"],  # feature 0: mean 3
    )
    expected = [1.5 / 4.5, 0.0, 1.0, 0.5, 0.5, 0.0]
    assert atlas.modality.tolist() == pytest.approx(expected)


def test_without_captions_the_words_stand_for_the_texts() -> None:
    rows = torch.zeros(1, N_FEATURES)
    rows[:, 0] = 3.0
    atlas = build_atlas(WordEncoder(WORDS), batches(rows, 1), ["dog", "cat"], fingerprint="f")
    assert atlas.modality[0] == pytest.approx(3.0 / 4.5)


def test_words_and_phrases_are_the_vocabulary_in_lower_case() -> None:
    atlas = build_atlas(
        WordEncoder(WORDS),
        batches(random_rows(0, 2), 2),
        ["dog", "Paris"],
        fingerprint="f",
        phrases=["  Fire   Truck ", ""],
    )
    assert atlas.vocabulary == {"dog", "paris", "fire truck"}


@pytest.mark.parametrize(("images", "words"), [([], ["dog"]), (batches(random_rows(0, 1), 1), [])])
def test_nothing_to_measure_is_refused(images: list[Codes], words: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        build_atlas(WordEncoder(WORDS), images, words, fingerprint="f")
