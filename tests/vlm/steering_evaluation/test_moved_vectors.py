"""Dense vectors moved before the sparse head."""

from pathlib import Path

import pytest
import torch

from sparse_encoder.baselines.sae import SaeConfig
from tests.tiny_model import photo, tiny_pipeline, write_tiny_data
from vlm.answer_batches import CodesOf
from vlm.mention import Lexicon
from vlm.pipeline import Pipeline
from vlm.steering_evaluation.mean_difference import MeanDifference
from vlm.steering_evaluation.moved_vectors import MovedBy, TrunkCells
from vlm.steering_evaluation.sae_feature import SaeFeatures, trained_sae
from vlm.steering_evaluation.training_photographs import TrainingPhotographs
from vlm.steering_evaluation.wishes import Strength, Wish

LEXICONS = {word: Lexicon.for_concept(word) for word in ("dog", "cat", "car", "zebra")}
REPLACE = Wish(0, "replacement", "dog", "cat")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def training(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotographs:
    data = tmp_path_factory.mktemp("data")
    write_tiny_data(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = TrainingPhotographs.load(data, pipeline.encoder, LEXICONS)
    assert found is not None
    return found


def way_codes(question_codes: CodesOf | None, seed: int = 1) -> str:
    assert question_codes is not None
    return question_codes(photo(seed)).sha256()


def test_no_move_gives_the_encoders_own_codes_bit_for_bit(pipeline: Pipeline) -> None:
    own = pipeline.encoder.encode_images([photo(3)])
    cells = TrunkCells(pipeline.encoder)
    move = torch.zeros(pipeline.encoder.image_trunk.width)
    assert MovedBy(cells, move, "none")(photo(3)).sha256() == own.sha256()


def test_an_encoder_fresh_from_its_folder_whose_heads_ask_for_gradients_will_do() -> None:
    pipeline = tiny_pipeline()
    own = pipeline.encoder.encode_images([photo(3)]).sha256()
    pipeline.encoder.image_head.requires_grad_(True)
    move = torch.zeros(pipeline.encoder.image_trunk.width)
    assert MovedBy(TrunkCells(pipeline.encoder), move, "none")(photo(3)).sha256() == own


def test_codes_of_a_move_are_those_of_the_moved_vectors() -> None:
    pipeline = tiny_pipeline()
    torch.nn.init.constant_(pipeline.encoder.image_head.bias, 0.3)  # a move must not add it again
    cells = TrunkCells(pipeline.encoder)
    move = torch.randn(cells(photo(3)).shape[1], generator=torch.Generator().manual_seed(0))
    vectors = torch.cat([cells(photo(3)).mean(0, keepdim=True), cells(photo(3))]).float()
    plain = pipeline.encoder.image_head(vectors + move)
    torch.testing.assert_close(MovedBy(cells, move, "test")(photo(3)).dense(), plain)


def test_photographs_show_what_their_label_or_caption_mentions(
    training: TrainingPhotographs,
) -> None:
    assert set(training.showing) == {"dog", "cat", "car"}  # no photograph shows a zebra
    texts = [(s.label, s.captions) for s in training.images.samples]
    for i in training.showing["dog"].tolist():
        assert "dog" in str(texts[i])


def test_vectors_of_a_photograph_are_its_mean_and_then_its_cells(
    training: TrainingPhotographs,
) -> None:
    per_image = 1 + len(training.images.cells(0))
    found = training.vectors(torch.arange(training.n_vectors))
    for image in (0, 7, len(training.images) - 1):  # of several shards
        own = found[image * per_image : (image + 1) * per_image]
        torch.testing.assert_close(own[0], training.pooled[image])
        assert torch.equal(own[1:], training.images.cells(image))


def test_without_training_shards_there_are_no_dense_baselines(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    assert TrainingPhotographs.load(tmp_path, pipeline.encoder, LEXICONS) is None


def test_a_difference_of_means_moves_from_one_mean_to_the_other(
    pipeline: Pipeline, training: TrainingPhotographs
) -> None:
    rival = MeanDifference(TrunkCells(pipeline.encoder), training)
    question = rival.way(lambda _: Strength(0, 2.0))(REPLACE, training.images.samples[0])
    assert isinstance(question.codes_of, MovedBy)
    mean = {c: training.pooled[rows].mean(0) for c, rows in training.showing.items()}
    torch.testing.assert_close(question.codes_of.move, 2 * (mean["cat"] - mean["dog"]))
    assert not rival.can(Wish(0, "insertion", target="zebra"))
    assert rival.can(REPLACE)


@pytest.fixture(scope="module")
def rival(
    pipeline: Pipeline, training: TrainingPhotographs, tmp_path_factory: pytest.TempPathFactory
) -> SaeFeatures:
    config = SaeConfig("topk", 32, 8, steps=5, batch=16)
    path = tmp_path_factory.mktemp("sae") / "sae"
    sae = trained_sae(training, config, path)
    again = trained_sae(training, config, path)
    assert torch.equal(sae.decoder, again.decoder)
    return SaeFeatures(sae, TrunkCells(pipeline.encoder), training)


def test_an_autoencoder_steers_by_features_of_the_concepts_photographs(
    pipeline: Pipeline, training: TrainingPhotographs, rival: SaeFeatures
) -> None:
    question = rival.way(lambda _: Strength(2, 4.0))(REPLACE, training.images.samples[0])
    own = pipeline.encoder.encode_images([photo(1)]).sha256()
    assert way_codes(question.codes_of) != own
    weaker = rival.way(lambda _: Strength(2, 1.0))(REPLACE, training.images.samples[0])
    assert question.codes_of is not None and weaker.codes_of is not None
    assert question.codes_of.name != weaker.codes_of.name


def test_an_autoencoders_concept_mean_is_the_plain_mean(rival: SaeFeatures) -> None:
    dense = rival.codes.dense()
    rows = rival.training.showing["dog"]
    own, rest = dense[rows].mean(0), torch.ones(len(dense), dtype=torch.bool)
    rest[rows] = False
    best = (own - dense[rest].mean(0)).argsort(descending=True)
    assert rival._ranking("dog")[0] == int(best[0])
    feature = int(best[0])
    values = dense[:, feature]
    assert rival.p99(feature) == pytest.approx(float(values[values > 0].quantile(0.99)))
