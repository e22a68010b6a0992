"""Cached trunk outputs equal fresh ones, and a damaged photograph costs only itself."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import decode_image
from sparse_encoder.tiny import TinyImageTrunk, TinyTextTrunk
from sparse_encoder.trunk_cache import cached_images, cached_texts
from tests.tiny_model import png, write_shard


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar"
    samples: list[tuple[str, bytes, object]] = [
        (f"k{i}", png(i), {"captions": ["A cat."]}) for i in range(4)
    ]
    samples.insert(2, ("broken", png(9)[:60], {"captions": ["A dog."]}))
    write_shard(path, samples)
    return path


def test_cells_pooled_vectors_and_windows_fit_the_trunk(
    shard: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trunk = TinyImageTrunk()
    with caplog.at_level(logging.WARNING):
        images = cached_images([shard], trunk, "tiny", cache=tmp_path / "cache")
    assert [s.key for s in images.samples] == ["k0", "k1", "k2", "k3"]
    assert "broken" in caplog.text
    fresh = trunk(trunk.preprocess([decode_image(png(2)).pixels]))[0]
    torch.testing.assert_close(images.cells(2), fresh.half().float())
    torch.testing.assert_close(images.pooled()[2], images.cells(2).mean(0))
    assert images.windows(np.random.default_rng(0)).shape == (4, trunk.width)


def test_a_second_call_does_not_run_the_trunk(shard: Path, tmp_path: Path) -> None:
    first = cached_images([shard], TinyImageTrunk(), "tiny", cache=tmp_path)
    again = cached_images([shard], None, "tiny", cache=tmp_path)
    torch.testing.assert_close(again.pooled(), first.pooled())


def test_texts_are_cached_by_their_content(tmp_path: Path) -> None:
    vectors = cached_texts(["a dog", "a cat"], TinyTextTrunk(), "tiny", cache=tmp_path)
    torch.testing.assert_close(vectors, TinyTextTrunk()(["a dog", "a cat"]).half())
    again = cached_texts(["a dog", "a cat"], None, "tiny", cache=tmp_path)
    torch.testing.assert_close(again, vectors)
    with pytest.raises(TypeError):  # other texts need the trunk
        cached_texts(["a bird"], None, "tiny", cache=tmp_path)


def test_a_shard_without_a_readable_photograph_is_left_out_and_only_such_are_refused(
    shard: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = tmp_path / "empty.tar"
    write_shard(empty, [("broken", b"no picture", {"captions": ["A dog."]})])
    with caplog.at_level(logging.WARNING):
        images = cached_images([empty, shard], TinyImageTrunk(), "tiny", cache=tmp_path)
    assert len(images) == 4 and images.starts == [0]
    assert "the shard is left out" in caplog.text
    with pytest.raises(SparsightError, match="no readable photograph in 1 shards"):
        cached_images([empty], TinyImageTrunk(), "tiny", cache=tmp_path)
