from pathlib import Path

import pytest

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.shard_names import training_shards


def test_braces_stand_for_many_paths_and_addresses(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.tar").touch()
    names = training_shards(None, [f"{tmp_path}/{{0..2}}.tar", "https://example.org/{a,b}.tar"])
    assert [n.rsplit("/", 1)[1] for n in names] == ["0.tar", "1.tar", "2.tar", "a.tar", "b.tar"]


@pytest.mark.parametrize(
    ("patterns", "word"),
    [
        ([], "--shards PATH or URL"),
        (["nowhere/{0..1}.tar"], "2 of 2 shards do not exist"),
        (["{0..1.tar"], "cannot read|do not exist"),
    ],
)
def test_shards_that_are_not_there_are_named(patterns: list[str], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        training_shards(None, patterns)
