"""A captioner steered by the features of an imported autoencoder, through the commands for any model."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from serving.cli.main import main
from sparse_encoder.image import decode_image
from sparse_encoder.imported_sae import ImportedSae
from sparse_encoder.train import train_encoder
from tests.sparse_encoder.test_import_sae import an_sae
from tests.tiny_model import WORDS, png, write_tiny_data
from vlm.pipeline import Pipeline
from vlm.train_run import train_vlm


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, an autoencoder of its image trunk imported as `new`, with an atlas; and a photograph."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(home / "cache"))
        write_tiny_data(home / "data")
        train_encoder("tiny", home / "data", home / "encoder", {"epochs": 2.0})
        settings = {"steps": 4, "lr_projector": 0.03}
        train_vlm("tiny", home / "data", home / "model", settings, encoder_folder=home / "encoder")
        (home / "words.txt").write_text("\n".join(WORDS))
        (home / "p.png").write_bytes(png(0))
        sae = an_sae(home / "sae", 16)
        made = run(home, "features", "import-sae", sae, home / "model", "--out", home / "new")
        assert made.exit_code == 0, made.stderr
        shards = sorted((home / "data").rglob("train-*.tar"))
        images = [word for shard in shards for word in ("--images", shard)]
        words = ("--words", home / "words.txt", "--embedding", "trunk")
        built = run(home, "features", "build", home / "new", *images, *words)
        assert built.exit_code == 0, built.stderr
    return home


@pytest.fixture(autouse=True)
def its_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(home / "cache"))


def test_without_edits_it_says_what_the_model_under_it_says(home: Path) -> None:
    own = run(home, "caption", home / "p.png", "--model", home / "model")
    imported = run(home, "caption", home / "p.png", "--model", home / "new")
    assert own.exit_code == imported.exit_code == 0, imported.stderr
    assert own.stdout == imported.stdout


def test_an_edit_moves_the_trunk_vectors_that_the_captioner_reads(home: Path) -> None:
    pipeline = Pipeline.load(home / "new")
    assert pipeline.reader is not None
    image = decode_image((home / "p.png").read_bytes())
    codes = pipeline.encode([image])
    edited = codes.dense()
    edited[:, 3] += 2.0
    after = type(codes).from_dense(edited, codes.grid)
    found = pipeline.reader([image], codes, after)

    dense = Pipeline.load(home / "model")
    sae = ImportedSae.load(home / "new" / "sae")
    trunk = dense.encoder.image_trunk  # type: ignore[union-attr]
    cells = trunk(dense.encoder.preprocess(image.pixels)[None])[0].float()
    vectors = torch.cat([cells.mean(0, keepdim=True), cells])
    moved = vectors + (edited - codes.dense()) @ sae.decoder
    plain = dense.encoder.image_head(moved)
    assert torch.allclose(found.dense(), plain, atol=1e-3)
    assert not torch.allclose(found.dense(), dense.encode([image]).dense(), atol=1e-2)


def test_a_steered_caption_has_a_receipt_that_is_true(home: Path) -> None:
    steer = ("--steer", "#3=2raw", "--json")
    made = run(home, "caption", home / "p.png", "--model", home / "new", *steer)
    assert made.exit_code == 0, made.stderr
    receipt = home / "receipt.json"
    receipt.write_text(made.stdout)
    (edit,) = json.loads(made.stdout)["receipt"]["edits"]
    assert (edit["feature"], edit["after"]) == (3, 2.0)
    verified = run(home, "verify", receipt, "--image", home / "p.png", "--model", home / "new")
    assert verified.exit_code == 0, verified.stderr
    other = run(home, "verify", receipt, "--image", home / "p.png", "--model", home / "model")
    assert other.exit_code == 1


def test_why_it_says_a_word_is_refused_in_words(home: Path) -> None:
    asked = run(home, "explain", home / "p.png", "--word", "dog", "--model", home / "new")
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert "autoencoder" in asked.stderr
