"""Validation against the plain twin: all codes at once, similarities in one matrix."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import decode_image
from sparse_encoder.pretrain.config import pretrain_run
from sparse_encoder.pretrain.silent_features import SilentFeatures
from sparse_encoder.pretrain.validation import Validator
from sparse_encoder.templates import ZEROSHOT_TEMPLATES
from sparse_encoder.towers.model import SparseClip
from tests.ranks import LocalRanks
from tests.tiny_model import WORDS, png, write_tar

RUN = replace(pretrain_run("vit-tiny-8x", {}), micro_batch=4, val_pairs=100)


@pytest.fixture(scope="module")
def clip() -> SparseClip:
    torch.manual_seed(3)
    return SparseClip.build(RUN.model)


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Two shards, 10 pictures; pairs with a caption of their own, and labels of four classes."""
    files: dict[str, bytes] = {}
    for i, word in enumerate(WORDS):
        meta = {"captions": [f"a {word}, number {i}"], "label": WORDS[i % 4]}
        files[f"{i}.png"], files[f"{i}.json"] = png(i), json.dumps(meta).encode()
    names = list(files)
    return [
        str(write_tar(tmp_path / f"{n}.tar", {k: files[k] for k in part}))
        for n, part in enumerate((names[:6], names[6:]))
    ]


def validator(**shards: object) -> Validator:
    return Validator(RUN, Accelerator(cpu=True), **shards)  # type: ignore[arg-type]


def test_recall_and_l0_equal_those_of_whole_matrices(clip: SparseClip, shards: list[str]) -> None:
    found = validator(pairs=shards).measure(clip)
    with torch.no_grad():
        image = clip.encode_images([decode_image(png(i)).pixels for i in range(10)])
        text = clip.encode_texts([f"a {word}, number {i}" for i, word in enumerate(WORDS)])
    similarity = unit(text) @ unit(image).T
    own = torch.arange(10)
    assert found["val pairs"] == 10
    assert found["val R@1 text to image"] == pytest.approx(
        float((similarity.argmax(1) == own).float().mean())
    )
    assert found["val R@1 image to text"] == pytest.approx(
        float((similarity.argmax(0) == own).float().mean())
    )
    assert found["val image L0"] == pytest.approx(float((image > 0).float().sum(1).mean()))
    assert found["val text L0"] == pytest.approx(float((text > 0).float().sum(1).mean()))
    assert found["val image features silent"] == int((image == 0).all(0).sum())


def test_zero_shot_equals_that_of_whole_matrices(clip: SparseClip, shards: list[str]) -> None:
    found = validator(labelled=shards).measure(clip)
    names = sorted(WORDS[:4])
    with torch.no_grad():
        image = clip.encode_images([decode_image(png(i)).pixels for i in range(10)])
        codes = [unit(clip.encode_texts([t.format(n) for n in names])) for t in ZEROSHOT_TEMPLATES]
    best = (image @ unit(sum(codes)).T).argmax(1)  # type: ignore[arg-type]
    right = [names[int(best[i])] == WORDS[i % 4] for i in range(10)]
    assert found["zero-shot top-1"] == pytest.approx(sum(right) / 10)
    assert (found["zero-shot images"], found["zero-shot classes"]) == (10, 4)


def test_pairs_that_fit_are_found_and_the_model_trains_on(shards: list[str]) -> None:
    """Text outputs that equal the image outputs of their pairs give R@1 of 1 both ways."""

    class Perfect(Validator):
        def _image_vectors(self, clip: SparseClip, images: Any) -> torch.Tensor:
            return torch.eye(16)[: len(images)]

        _text_vectors = _image_vectors

    twin = SparseClip.build(RUN.model).train()
    with torch.no_grad():
        twin.text_head.weight.copy_(twin.image_head.weight)
    found = Perfect(replace(RUN, micro_batch=10), Accelerator(cpu=True), shards).measure(twin)
    assert found["val R@1 text to image"] == found["val R@1 image to text"] == 1.0
    assert twin.training


def test_only_the_first_pairs_are_read(clip: SparseClip, shards: list[str]) -> None:
    judge = Validator(replace(RUN, val_pairs=4), Accelerator(cpu=True), shards)
    assert judge.measure(clip)["val pairs"] == 4


def test_it_gives_the_same_figures_every_time(clip: SparseClip, shards: list[str]) -> None:
    judge = validator(pairs=shards, labelled=shards)
    state = torch.get_rng_state()
    assert judge.measure(clip) == judge.measure(clip)
    assert torch.equal(state, torch.get_rng_state())  # so that training draws what it would


def test_broken_samples_are_left_out_and_the_rest_is_measured(
    clip: SparseClip, shards: list[str], tmp_path: Path
) -> None:
    bad = {
        "x.png": b"no picture",
        "x.json": b'{"captions": ["x"], "label": "dog"}',
        "y.png": png(1),
        "y.json": b"{",
    }
    judge = validator(pairs=[*shards, str(write_tar(tmp_path / "bad.tar", bad))])
    assert judge.measure(clip)["val pairs"] == 10
    assert judge.skipped.totals() == {"shard": 0, "image": 1, "text": 1}


@pytest.mark.parametrize(
    ("files", "kind", "param", "word"),
    [
        ({"x.png": b"no", "x.txt": b"dog"}, "pairs", "val_shards", "no readable pair"),
        ({"x.png": png(0), "x.txt": b"dog"}, "labelled", "zeroshot_shards", "0 labels"),
        (
            {"x.png": png(0), "x.json": b'{"label": "dog"}'},
            "labelled",
            "zeroshot_shards",
            "two classes or more",
        ),
        ({}, "pairs", "val_shards", "no readable pair"),
        (
            {"x.json": b'{"label": "dog"}', "y.json": b'{"label": "cat"}', "y.png": b"no"},
            "labelled",
            "zeroshot_shards",
            "no readable picture",
        ),
    ],
)
def test_shards_that_say_nothing_are_refused(
    clip: SparseClip,
    tmp_path: Path,
    files: Mapping[str, bytes],
    kind: str,
    param: str,
    word: str,
) -> None:
    path = str(write_tar(tmp_path / "a.tar", files))
    with pytest.raises(SparsightError, match=word) as caught:
        validator(**{kind: [path]}).measure(clip)
    assert caught.value.param == param


def measure_on_a_rank(folder: Path, shards: list[str]) -> None:
    clip = SparseClip.build(RUN.model)
    clip.load_state_dict(torch.load(folder / "clip.pt", weights_only=True))
    accelerator = Accelerator(cpu=True)
    found: dict[str, object] = {**Validator(RUN, accelerator, shards, shards).measure(clip)}
    window = SilentFeatures(4)
    rows = torch.load(folder / "rows.pt", weights_only=True)
    half = slice(accelerator.process_index, None, accelerator.num_processes)
    window.add(rows[half], rows[half])
    found["silent"] = window.count(clip, accelerator)
    (folder / f"found{accelerator.process_index}.json").write_text(json.dumps(found))
    # A rank whose threads still run when Python ends is aborted now and then.
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_measure_what_one_does(
    clip: SparseClip, shards: list[str], tmp_path: Path
) -> None:
    """11 samples of which the fourth is broken: one rank has six photographs, the other four."""
    bad = {"x.png": b"no picture", "x.json": b'{"captions": ["x"], "label": "dog"}'}
    shards.insert(1, str(write_tar(tmp_path / "bad.tar", bad)))
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    rows = torch.randn(6, 16) + 2
    torch.save(rows, tmp_path / "rows.pt")
    LocalRanks(measure_on_a_rank, tmp_path, shards).wait()
    alone = validator(pairs=shards, labelled=shards).measure(clip)
    window = SilentFeatures(100)
    window.add(rows, rows)
    alone["silent"] = list(window.count(clip, Accelerator(cpu=True)))  # type: ignore[assignment]
    for rank in range(2):
        found = json.loads((tmp_path / f"found{rank}.json").read_text())
        assert found == {k: pytest.approx(v) for k, v in alone.items()}


def test_silence_is_over_the_window_and_old_pairs_leave_it(clip: SparseClip) -> None:
    window, accelerator = SilentFeatures(4), Accelerator(cpu=True)
    torch.manual_seed(0)
    parts = [(torch.randn(2, 16) * 3, torch.randn(2, 16) + 1) for _ in range(5)]
    for part in parts:
        window.add(*part)
    assert len(window) == 4
    with torch.no_grad():
        kept = [torch.cat(side) for side in zip(*parts[-2:], strict=True)]
        expected = tuple(
            int((head(x) == 0).all(0).sum())
            for head, x in zip((clip.image_head, clip.text_head), kept, strict=True)
        )
        alone = int((clip.image_head(parts[-1][0]) == 0).all(0).sum())
    assert window.count(clip, accelerator) == expected
    assert expected[0] < alone  # a batch alone leaves more features out


def test_a_batch_larger_than_the_window_is_kept_whole(clip: SparseClip) -> None:
    window = SilentFeatures(1)
    window.add(torch.randn(5, 16), torch.randn(5, 16))
    assert len(window) == 5
