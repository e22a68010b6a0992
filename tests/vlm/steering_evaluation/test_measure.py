"""The whole evaluation on a pipeline that talks by rule; resumed, written and read."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_encoder.dataset import Sample, find_shards, read_samples
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import decode_image
from tests.tiny_model import png, tiny_pipeline, write_shard, write_tiny_data
from vlm.pipeline import Answer, Pipeline, Request
from vlm.steering_evaluation.answer_book import Standing
from vlm.steering_evaluation.left_and_right import side_by_side
from vlm.steering_evaluation.measure import measure_steering
from vlm.steering_evaluation.page import write_steering_report
from vlm.steering_evaluation.report import SteeringReport
from vlm.steering_evaluation.sbert import Sbert
from vlm.steering_evaluation.sizes import QUICK, sizes
from vlm.steering_evaluation.task_wishes import HowMany
from vlm.template import ImagePart, TextPart

THINGS = ["dog", "cat", "car", "ball"]
TINY = replace(
    QUICK,
    doses=(1.0, 4.0),
    images=4,
    per_set=None,
    insertion=HowMany(None, 2, 3, 4),
    suppression=HowMany(None, 2, 3, 4),
    replacement=HowMany(None, 2, 3, 4),
    unrelated=3,
    alphas=(1.0,),
    sae_features=16,
    sae_steps=3,
)


class Rule:
    """Says the photograph's label; a clamp of 4 p99 says the target, an ablation of K 4 hides."""

    def __init__(self, pipeline: Pipeline, labels: dict[str, str]) -> None:
        self.fingerprint, self.labels, self.n_asked = pipeline.fingerprint, labels, 0

    def __call__(self, requests: Sequence[Request]) -> list[Answer]:
        self.n_asked += len(requests)
        return [Answer(self._text(request), "stop", 5, 6, None) for request in requests]

    def _text(self, request: Request) -> str:
        image, words = request.messages[0].parts
        assert isinstance(image, ImagePart) and isinstance(words, TextPart)
        if words.text.startswith(("Is ", "What is the main colour")):
            return "Yes."
        said = self.labels.get(image.image.sha256, "car and a ball").split(" and a ")
        for edit in request.edits:
            if edit.op == "ablate" and edit.concept in said and edit.k == 4:
                said.remove(edit.concept)
            if edit.op == "clamp" and edit.concept and (edit.value or 0) >= 4:
                said.append(edit.concept)
        return f"A photo of a {' and a '.join(said)}." if said else "A photo of a thing."


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Rule, Path]:
    data = tmp_path_factory.mktemp("data")
    write_tiny_data(data)
    rows = [(f"t{i}", png(100 + i), {"label": THINGS[i % 4]}) for i in range(32)]
    write_shard(data / "zeroshot" / "caltech101-test.tar", list(rows))
    labels = {decode_image(image).sha256: meta["label"] for _, image, meta in rows}
    pipeline = tiny_pipeline()
    rule = Rule(pipeline, labels)
    pipeline.answer = rule  # type: ignore[method-assign, assignment]
    return pipeline, rule, data


def embed(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[*(float(t in text) for t in THINGS), 0.1] for text in texts])


def measured(
    world: tuple[Pipeline, Rule, Path], out: Path, seen: list[Standing] | None = None
) -> SteeringReport:
    pipeline, _, data = world
    samples = list(read_samples(find_shards(data, "zeroshot/*-test.tar")))
    sets: dict[str, list[Sample]] = {"caltech101": samples}
    told = [] if seen is None else seen
    return measure_steering(pipeline, sets, data, out, TINY, Sbert(embed), told.append)


@pytest.fixture(scope="module")
def found(
    world: tuple[Pipeline, Rule, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SteeringReport, Path, list[Standing]]:
    out, seen = tmp_path_factory.mktemp("out"), list[Standing]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return measured(world, out, seen), out, seen


def test_a_model_that_obeys_k_4_at_4_p99_is_found_to_need_just_that(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    report = found[0]
    for task, dose in (("insertion", 4.0), ("suppression", None), ("replacement", 4.0)):
        headline = report.headline(task)  # type: ignore[arg-type]
        assert headline is not None
        assert headline.chosen.common.dose == dose
        assert all(trial.success for trial in headline.own), task
        assert headline.strongest and all(trial.success for trial in headline.strongest.trials), (
            task
        )
    assert {bar.name: bar.met for bar in report.bars if "success" in bar.name} == {
        f"{task}{chosen}, success": True
        for task in ("insertion", "suppression", "replacement")
        for chosen in ("", " at the strongest")
    }
    assert all(f.strongest is None for f in report.families if f.family != "K <= 4")


def test_random_features_and_no_steering_never_succeed(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    for baseline in found[0].baselines:
        if baseline.name in ("no steering", "random features"):
            assert baseline.success.mean == 0
    names = {(b.task, b.name) for b in found[0].baselines}
    assert len(names) == 3 * 6  # nothing, two prompts, random, means, autoencoder


def test_the_dev_half_and_the_test_half_share_no_photograph(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    rows = [json.loads(line) for line in (found[1] / "answers.jsonl").read_text().splitlines()]
    dev = {r["image"] for r in rows if r["stage"].startswith("insertion, steered, K 4, 4 p99")}
    test = {r["image"] for r in rows if r["stage"].startswith("insertion, steered, K <= 4")}
    assert dev and not dev & {t.image for t in found[0].headline("insertion").own}  # type: ignore[union-attr]
    assert not dev & test


def test_steering_leaves_unrelated_answers_and_idle_codes_alone(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    for one in found[0].side_effects:
        assert one.unrelated.value == 1
    same = found[0].no_op
    assert same.n == same.same_codes
    assert [one.family for one in found[0].bystanders] == ["K <= 4"]
    assert all(one.unchanged.mean == 1 == one.retained.mean for one in found[0].bystanders)


def test_several_edits_at_once_are_judged_each_and_all(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    for one in found[0].composition:
        assert one.all_of.eligible == 4
        assert one.all_of.value == 1, one.kind
    assert [len(one.each) for one in found[0].composition] == [2, 2, 3]


def test_the_paper_grid_has_every_cell_and_success_only_where_the_rule_obeys(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    cells = {(cell.k, cell.ss): cell for cell in found[0].grid.cells}
    assert len(cells) == 25
    assert cells[4, 4.0].success.value == cells[4, 8.0].success.value == 1
    assert cells[2, 8.0].success.value == cells[4, 2.0].success.value == 0


def test_the_judges_agreement_is_printed(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    report = found[0]
    assert [one.task for one in report.judging] == ["insertion", "suppression", "replacement"]
    for one in report.judging:
        assert one.agreement.n > 0
        assert f"{one.task}: words and SBERT {one.agreement}" in report.table()


def test_the_time_left_comes_to_nothing_at_the_end(
    found: tuple[SteeringReport, Path, list[Standing]],
) -> None:
    last = found[2][-1]
    assert last.done == last.of
    assert last.all_of > 100 and last.seconds_left is not None


def test_a_second_run_in_the_folder_asks_nothing_again_but_the_no_op(
    world: tuple[Pipeline, Rule, Path],
    found: tuple[SteeringReport, Path, list[Standing]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path))
    rule = world[1]
    before = rule.n_asked
    again = measured(world, found[1])
    assert rule.n_asked - before == 2 * again.no_op.n
    assert [b.to_json() for b in again.bars] == [b.to_json() for b in found[0].bars]


def test_the_report_is_written_whole_and_the_page_needs_no_network(
    found: tuple[SteeringReport, Path, list[Standing]], tmp_path: Path
) -> None:
    report = found[0]
    written = write_steering_report(report, tmp_path / "report", "tiny")
    assert {path.name for path in written} == {"report.json", "report.html", "to_check.jsonl"}
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {task["task"] for task in numbers["tasks"]} == {
        "insertion",
        "suppression",
        "replacement",
    }
    page = (tmp_path / "report" / "report.html").read_text()
    assert "http://" not in page and "<script" not in page and page.count("<svg") == 4
    rows = [
        json.loads(line)
        for line in (tmp_path / "report" / "to_check.jsonl").read_text().splitlines()
    ]
    assert len(rows) == len(report.to_check) and all(row["person"] is None for row in rows)
    assert "insertion, success: 100.0 %" in report.table()


def test_nothing_to_steer_is_refused(world: tuple[Pipeline, Rule, Path], tmp_path: Path) -> None:
    pipeline, _, data = world
    with pytest.raises(SparsightError, match="at least one sample"):
        measure_steering(pipeline, {"none": []}, data, tmp_path, TINY, Sbert(embed))


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"doses": ()}, "doses"), ({"doses": (9.0,)}, "at most 8"), ({"images": 0}, "images")],
)
def test_sizes_that_make_no_sense_are_refused(changed: dict[str, object], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        sizes("quick", **changed)


def test_a_picture_of_two_photographs_has_each_on_its_side() -> None:
    left, right = (Sample(str(i), png(i)) for i in (1, 2))
    picture = np.asarray(decode_image(side_by_side(left, right)).pixels)
    swapped = np.asarray(decode_image(side_by_side(right, left)).pixels)
    half = picture.shape[1] // 2
    assert (picture[:, :half] == swapped[:, half:]).all()
    assert (picture[:, :half] != picture[:, half:]).any()
