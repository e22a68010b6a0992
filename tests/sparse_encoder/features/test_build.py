"""The whole build on tiny shards: stopped anywhere it ends the same, and bad input is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sparse_encoder.atlas import TABLE_FILE, VOCABULARY_FILE, FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.dataset import read_samples
from sparse_encoder.doses import Doses
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.features import AtlasSettings, WordForms, build_features
from sparse_encoder.features import text_words as text_words_module
from sparse_encoder.features.top_images import TOP_FILE
from sparse_encoder.image import decode_image
from tests.tiny_model import png, write_shard

FINGERPRINT = "f" * 64
WORDS = ["dog", "dogs", "cat", "red car", "bird", "tree"]
FORMS = WordForms(lambda word: word.removesuffix("s"))
N_FEATURES = 40
SETTINGS = AtlasSettings(top_images=4, neighbours=3, at_least=2)


@pytest.fixture(scope="module")
def encoder() -> SparseEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SparseEncoder.build(EncoderConfig(N_FEATURES, "tiny", "tiny")).requires_grad_(False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(text_words_module, "WORD_BLOCK", 2)  # several blocks of the few words
    monkeypatch.setattr(text_words_module, "SAVE_EVERY", 1)


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    said = ["A dog .", "Two dogs", "a cat", "the red car"]
    made = []
    for s in range(3):
        photos = [
            (f"s{s}p{i}", png(40 * s + i), {"captions": [said[(s + i) % 4]]}) for i in range(14)
        ]
        made.append(tmp_path / f"part-{s}.tar")
        write_shard(made[-1], photos)
    return made


def build(encoder: SparseEncoder, shards: list[Path], out: Path, **more: Any) -> FeatureAtlas:
    arguments: dict[str, Any] = {
        "fingerprint": FINGERPRINT,
        "forms": FORMS,
        "settings": SETTINGS,
        **more,
    }
    return build_features(encoder, shards, arguments.pop("words", WORDS), out, **arguments)


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


class Stopped(Exception):
    """The process was killed here."""


@pytest.mark.parametrize("stop", range(12))
def test_a_stopped_build_goes_on_to_the_very_bytes_of_an_unbroken_one(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path, stop: int
) -> None:
    build(encoder, shards, tmp_path / "whole")
    told: list[tuple[str, int]] = []

    def kill(step: str, done: int, of: int) -> None:
        told.append((step, done))
        if len(told) == stop + 1:
            raise Stopped

    with pytest.raises(Stopped):
        build(encoder, shards, tmp_path / "broken", told=kill)
    assert not (tmp_path / "broken" / TABLE_FILE).exists()
    build(encoder, shards, tmp_path / "broken")
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    assert set(files(tmp_path / "whole")) == {TABLE_FILE, VOCABULARY_FILE, TOP_FILE}


def test_a_state_file_that_is_half_written_is_made_again(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path
) -> None:
    build(encoder, shards, tmp_path / "whole")

    def kill(step: str, done: int, of: int) -> None:
        if step == "neighbours":
            raise Stopped

    with pytest.raises(Stopped):
        build(encoder, shards, tmp_path / "broken", told=kill)
    (state,) = (tmp_path / "broken").glob(".build-*")
    for path in state.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:200])
    build(encoder, shards, tmp_path / "broken")
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


def test_a_stopped_build_of_other_words_is_left_alone(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path
) -> None:
    def kill(step: str, done: int, of: int) -> None:
        if step == "trust":
            raise Stopped

    with pytest.raises(Stopped):
        build(encoder, shards, tmp_path / "out", words=["tree"], told=kill)
    build(encoder, shards, tmp_path / "out")
    build(encoder, shards, tmp_path / "whole")
    for name in (TABLE_FILE, TOP_FILE):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_numbers_and_top_images_are_those_of_all_codes_at_once(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path
) -> None:
    atlas = build(encoder, shards, tmp_path / "out")
    samples = list(read_samples(shards))
    trunk = encoder.image_trunk
    cells = torch.cat([trunk(trunk.preprocess([decode_image(s.image).pixels])) for s in samples])
    cells = cells.half().float()  # as the cache holds them
    code = encoder.image_head(cells.mean(1))
    assert torch.allclose(torch.from_numpy(atlas.density), (code > 0).float().mean(0))
    mean = code.sum(0) / (code > 0).sum(0).clamp(min=1)
    assert torch.allclose(torch.from_numpy(atlas.mean), mean, atol=1e-5)
    rows = pq.read_table(tmp_path / "out" / TOP_FILE).to_pylist()
    place = {s.key: i for i, s in enumerate(samples)}
    for feature in range(N_FEATURES):
        mine = [row for row in rows if row["feature"] == feature]
        best = code[:, feature].sort(descending=True, stable=True)
        n = min(4, int((code[:, feature] > 0).sum()))
        assert [place[row["id"]] for row in mine] == best.indices[:n].tolist()
        assert [row["rank"] for row in mine] == list(range(n))
        for row in mine:
            assert row["activation"] == pytest.approx(
                float(code[place[row["id"]], feature]), abs=1e-5
            )
            local = encoder.image_head(cells[place[row["id"]]])[:, feature]
            assert row["cell_scale"] == pytest.approx(float(local.max()), abs=1e-5)
            given = np.frombuffer(row["cells"], np.uint8) * row["cell_scale"] / 255
            assert np.allclose(given, local.numpy(), atol=row["cell_scale"] / 500 + 1e-5)


def test_neighbours_by_activation_are_those_of_the_whole_matrix(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparse_encoder.features import coactivation
    from sparse_encoder.features.columns import ImageColumns

    random = torch.Generator().manual_seed(3)
    code = torch.rand(30, 11, generator=random) * (torch.rand(30, 11, generator=random) < 0.3)
    rows = Codes.from_dense(code)
    image = torch.repeat_interleave(torch.arange(30), rows.offset.diff())
    order = rows.index.argsort(stable=True)
    offset = torch.zeros(12, dtype=torch.int64)
    offset[1:] = torch.bincount(rows.index, minlength=11).cumsum(0)
    columns = ImageColumns(image[order], rows.value[order], offset, [[] for _ in range(30)])
    assert torch.equal(columns.dense(2, 7), code[:, 2:7])
    monkeypatch.setattr(coactivation, "COLUMN_BLOCK", 4)
    found = coactivation.nearest_by_activation(columns, 3, 9, 3, n_images=30)
    unit = code / code.norm(dim=0).clamp(min=1e-12)
    cosine = (unit.T @ unit).fill_diagonal_(-1)
    for i, feature in enumerate(range(3, 9)):
        best = cosine[feature].topk(3)
        kept = best.values > 0
        assert np.allclose(found["cosine"][i][kept], best.values[kept])
        assert found["index"][i][kept].tolist() == best.indices[kept].tolist()


def test_images_without_captions_leave_every_name_unverified(
    encoder: SparseEncoder, tmp_path: Path
) -> None:
    write_shard(tmp_path / "bare.tar", [(f"p{i}", png(i), {}) for i in range(12)])
    atlas = build(encoder, [tmp_path / "bare.tar"], tmp_path / "out")
    assert set(atlas.trust or []) <= {"", "unverified"}
    assert np.isnan(atlas.trust_auc).all()
    again = FeatureAtlas.load(tmp_path / "out", fingerprint=FINGERPRINT)
    assert again.trust == atlas.trust


def test_a_new_atlas_removes_doses_that_were_measured_with_another(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path
) -> None:
    atlas = build(encoder, shards, tmp_path / "out")
    Doses(FINGERPRINT, atlas.scales_sha256, {}, ()).save(tmp_path / "out")
    build(encoder, shards, tmp_path / "out", overwrite=True)
    assert FeatureAtlas.load(tmp_path / "out").doses is not None  # the same atlas again
    build(encoder, shards[:2], tmp_path / "out", overwrite=True)
    assert FeatureAtlas.load(tmp_path / "out").doses is None


def test_words_of_another_language_can_name_features(
    encoder: SparseEncoder, tmp_path: Path
) -> None:
    said = ["Ein Hündchen", "eine Katze", "собака"]
    photos = [(f"p{i}", png(i), {"captions": [said[i % 3]]}) for i in range(30)]
    write_shard(tmp_path / "de.tar", photos)
    words = ["Hu\u0308ndchen", "Katze", "собака"]
    atlas = build(encoder, [tmp_path / "de.tar"], tmp_path / "out", words=words)
    named = {name for name in atlas.names if name}
    assert named <= {"hündchen", "katze", "собака"}
    assert {"hündchen", "katze", "собака"} <= atlas.vocabulary


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no word to name features by"),
        (["", "  ", "!"], "no word to name features by"),
        (["x" * 10_000], "no word to name features by"),
    ],
)
def test_a_build_without_a_word_is_refused(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(SparsightError, match=message):
        build(encoder, shards, tmp_path / "out", words=words)


def test_shards_without_a_photograph_are_refused(encoder: SparseEncoder, tmp_path: Path) -> None:
    write_shard(tmp_path / "empty.tar", [("p0", b"no picture", {})])
    with pytest.raises(SparsightError, match="no readable photograph in 1 shards") as refused:
        build(encoder, [tmp_path / "empty.tar"], tmp_path / "out")
    assert refused.value.param == "images"


def test_an_atlas_is_replaced_only_when_asked(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path
) -> None:
    build(encoder, shards, tmp_path / "out")
    with pytest.raises(SparsightError, match="holds an atlas already"):
        build(encoder, shards, tmp_path / "out")
    build(encoder, shards, tmp_path / "out", overwrite=True)


def test_the_atlas_of_another_model_and_a_half_written_one_are_refused(
    encoder: SparseEncoder, shards: list[Path], tmp_path: Path
) -> None:
    build(encoder, shards, tmp_path / "out")
    with pytest.raises(SparsightError, match="made for model ffffffffffff"):
        FeatureAtlas.load(tmp_path / "out", fingerprint="0" * 64)
    table = tmp_path / "out" / TABLE_FILE
    table.write_bytes(table.read_bytes()[:300])
    with pytest.raises(SparsightError, match="no readable feature atlas"):
        FeatureAtlas.load(tmp_path / "out")


def test_a_setting_below_one_is_refused() -> None:
    with pytest.raises(SparsightError, match="top_images is 0"):
        AtlasSettings(top_images=0)
