import json
from pathlib import Path

import pytest

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.metrics import MetricsFile, read_metrics


def test_entries_come_back_by_kind_and_in_order(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.add(10, "train", {"loss": 2.0})
    file.add(10, "val", {"val R@1": 0.5})
    file.add(20, "train", {"loss": 1.0})
    assert read_metrics(tmp_path, "train") == [
        {"step": 10, "kind": "train", "loss": 2.0},
        {"step": 20, "kind": "train", "loss": 1.0},
    ]
    assert [line["val R@1"] for line in read_metrics(tmp_path, "val")] == [0.5]


def test_a_run_that_goes_on_takes_away_what_it_will_measure_again(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    for step in (10, 20, 30):
        file.add(step, "train", {"loss": float(step)})
    file.go_on(20)
    file.add(30, "train", {"loss": 7.0})
    assert [(x["step"], x["loss"]) for x in read_metrics(tmp_path, "train")] == [
        (10, 10.0),
        (20, 20.0),
        (30, 7.0),
    ]


@pytest.mark.parametrize("rest", ['{"step": 20, "kind": "tra', '{"step": 20}\x00\n', "\n\n"])
def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, rest: str) -> None:
    file = MetricsFile(tmp_path)
    file.add(10, "train", {"loss": 1.0})
    with file.path.open("a") as end:
        end.write(rest)
    file.go_on(50)
    file.add(60, "train", {"loss": 2.0})
    lines = file.path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 60]


def test_a_run_that_begins_leaves_no_line_of_an_earlier_one(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.add(0, "val", {"val R@1": 0.0})
    file.add(10, "train", {"loss": 1.0})
    file.go_on(0)
    assert file.path.read_text() == ""


def test_going_on_without_a_file_makes_none(tmp_path: Path) -> None:
    MetricsFile(tmp_path).go_on(5)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "gone")
    with pytest.raises(SparsightError, match="free some space"):
        file.add(1, "train", {})


def test_a_folder_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="expected the --out"):
        read_metrics(tmp_path, "train")
