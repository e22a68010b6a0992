"""Shards are read whole, and what is broken in them is left out and said."""

import logging
from pathlib import Path

import pytest

from sparse_encoder.dataset import find_shards, read_samples
from sparse_encoder.errors import SparsightError
from tests.tiny_model import png, write_shard


def test_captions_labels_and_questions_are_read(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    qa = [{"question": "Where?", "answer": "Here.", "distractors": ["There."]}]
    write_shard(
        shard,
        [
            ("one", png(1), {"captions": ["A dog .", " "]}),
            ("two", png(2), {"label": "cat", "class": "n1", "detail": "Tabby"}),
            ("three", png(3), {"captions": ["x"], "captions_are": "by rule", "qa": qa}),
        ],
    )
    one, two, three = read_samples([shard])
    assert (one.key, one.captions, one.image) == ("one", ("A dog .",), png(1))
    assert (two.label, two.category, two.detail) == ("cat", "n1", "Tabby")
    assert three.captions_by_rule and three.qa == (("Where?", "Here."),)


@pytest.mark.parametrize("meta", [b"{", b"\xff\xfe", b"[1]", b'{"captions": [3]}', b'{"qa": [{}]}'])
def test_a_sample_with_broken_meta_is_left_out_and_the_rest_are_read(
    tmp_path: Path, meta: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    shard = tmp_path / "a.tar"
    write_shard(shard, [("bad", png(1), meta), ("good", png(2), {"captions": ["A cat."]})])
    with caplog.at_level(logging.WARNING):
        assert [s.key for s in read_samples([shard])] == ["good"]
    assert "bad" in caplog.text


def test_a_file_that_is_no_tar_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = tmp_path / "bad.tar", tmp_path / "good.tar"
    bad.write_bytes(b"this is no tar" * 100)
    write_shard(good, [("ok", png(1), {"captions": ["A cat."]})])
    with caplog.at_level(logging.WARNING):
        assert [s.key for s in read_samples([bad, good])] == ["ok"]
    assert "bad.tar" in caplog.text


def test_no_shards_are_refused_with_the_pattern(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match=r"coco/train-\*\.tar"):
        find_shards(tmp_path, "coco/train-*.tar")
