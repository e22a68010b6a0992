"""An imported autoencoder under the feature commands: built, searched, shown, contrasted, reported."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from serving.cli.main import main
from tests.sparse_encoder.test_import_sae import a_heads_model, an_sae
from tests.sparse_encoder.towers.tiny_towers import save_dense_clip
from tests.tiny_model import WORDS, png, write_shard


def run(cache: Path, *arguments: object) -> Result:
    return CliRunner().invoke(
        main, [str(a) for a in arguments], env={"SPARSIGHT_CACHE": str(cache)}
    )


@pytest.mark.parametrize("dense", ["heads", "clip"])
def test_the_feature_commands_work_on_it_unchanged(tmp_path: Path, dense: str) -> None:
    torch.manual_seed(0)
    if dense == "heads":
        model = a_heads_model(tmp_path / "dense")
    else:
        model = tmp_path / "dense"
        save_dense_clip(model)
    sae, new = an_sae(tmp_path / "sae", 16), tmp_path / "new"
    rows = [(f"p{i}", png(i), {"captions": [f"a {WORDS[i % 10]}"]}) for i in range(20)]
    write_shard(tmp_path / "a.tar", list(rows))
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    (tmp_path / "p.png").write_bytes(png(0))
    (tmp_path / "q.png").write_bytes(png(1))

    made = run(tmp_path, "features", "import-sae", sae, model, "--out", new)
    assert (made.exit_code, made.stdout) == (0, f"{new}\n"), made.stderr
    words = ("--words", tmp_path / "words.txt", "--embedding", "trunk")
    built = run(tmp_path, "features", "build", new, "--images", tmp_path / "a.tar", *words)
    assert built.exit_code == 0, built.stderr
    found = run(tmp_path, "features", "search", "dog", "--json", "--model", new)
    assert found.exit_code == 0, found.stderr
    first = json.loads(found.stdout)["features"][0]["feature"]
    shown = run(tmp_path, "features", "show", first, "--json", "--model", new)
    assert json.loads(shown.stdout)["feature"] == first
    photos = ("--on", tmp_path / "p.png", "--off", tmp_path / "q.png")
    contrast = run(tmp_path, "features", "contrast", *photos, "--json", "--model", new)
    assert json.loads(contrast.stdout)["features"]
    report = run(tmp_path, "features", "report", new, "--out", tmp_path / "pages")
    assert report.exit_code == 0, report.stderr

    # The captioner of neither: a folder of heads has none, and a CLIP none of ours.
    caption = run(tmp_path, "caption", tmp_path / "p.png", "--model", new)
    assert (caption.exit_code, caption.stdout) == (1, "")
    assert "no complete model" in caption.stderr
    again = run(tmp_path, "features", "import-sae", sae, model, "--out", new)
    assert again.exit_code == 1
    assert "--force" in again.stderr
