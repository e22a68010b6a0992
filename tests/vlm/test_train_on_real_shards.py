"""Both training commands on the shards that the model in the box was trained on."""

import gzip
import os
from itertools import islice
from pathlib import Path

import pytest

from sparse_encoder.train import train_encoder
from tests.tiny_model import photo
from vlm.pipeline import Pipeline, caption_request
from vlm.train_run import train_vlm

DATA = Path(os.environ.get("SPARSIGHT_DATA", Path(__file__).parents[3] / "shared" / "data"))
# Small held-out shards stand where training looks for its large ones.
SHARDS = {
    "coco/train-0000.tar": "coco/val-0000.tar",
    "flickr8k/train-0000.tar": "flickr8k/val-0000.tar",
    "concepts/train-0000.tar": "zeroshot/grocery-test.tar",
    "visual7w/train-0000.tar": "visual7w/val-0000.tar",
    "text/words.txt": "text/words.txt",
}

pytestmark = pytest.mark.skipif(
    not (DATA / "flickr8k").is_dir(), reason=f"needs the data sets in {DATA} (SPARSIGHT_DATA)"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, source in SHARDS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(DATA / source)
    with (
        gzip.open(DATA / "text/captions.jsonl.gz", "rt") as whole,
        gzip.open(folder / "text/captions.jsonl.gz", "wt") as few,
    ):
        few.writelines(islice(whole, 0, None, 400))
    return folder


def test_both_losses_fall_and_the_checkpoint_answers_alike_after_a_reload(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))
    heads = train_encoder("tiny", data, tmp_path / "encoder", {"epochs": 3.0})
    assert sum(heads[-10:]) < 0.97 * sum(heads[:10])
    losses = train_vlm(
        "tiny",
        data,
        tmp_path / "model",
        {"steps": 60, "lr_lora": 0.03, "lr_projector": 0.03},
        encoder_folder=tmp_path / "encoder",
    )
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])
    one, two = (Pipeline.load(tmp_path / "model") for _ in range(2))
    requests = [caption_request(photo(i)) for i in range(3)]
    assert [a.text for a in one.answer(requests)] == [a.text for a in two.answer(requests)]
    assert one.encode([photo(1)]).sha256() == two.encode([photo(1)]).sha256()
