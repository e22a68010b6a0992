"""The grid, the tables, and one run of each method on random vectors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.sparse_vs_dense import grid
from bench.sparse_vs_dense.grid import RECIPE, Case, all_cases, baselines, dense, head_run
from bench.sparse_vs_dense.held_out import HeldOut, LabelledSet, Model, measure
from bench.sparse_vs_dense.runs import Bench, same_size_hidden
from bench.sparse_vs_dense.tables import baseline_table, observations, verdict_lines, verdicts
from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.code_rows import CodeRows
from sparse_encoder.evaluation.image_set import ImageSet
from sparse_encoder.head_inputs import HeadInputs
from sparse_encoder.pairs import PairTable

N, WIDTH, TEXT_WIDTH = 40, 8, 6


def random_inputs() -> HeadInputs:
    random = torch.Generator().manual_seed(0)
    views = torch.randn(2, N, WIDTH, generator=random)
    texts = views[0] @ torch.randn(WIDTH, TEXT_WIDTH, generator=random)
    pairs = PairTable(
        [str(i) for i in range(N)],
        [np.array([i]) for i in range(N)],
        torch.arange(N),
        np.full(N, 1 / N),
        float(N),
    )
    nothing = torch.zeros(0, TEXT_WIDTH)
    return HeadInputs(
        None, pairs, views, views[0].mean(0), views[0].std(0), texts, 1.0, nothing, nothing,
        torch.zeros(0, dtype=torch.int64),
    )  # fmt: skip


def random_held_out() -> HeldOut:
    inputs = random_inputs()
    x, y = inputs.views[0], inputs.text_vectors

    def images(name: str) -> ImageSet:
        return ImageSet(name, [], CodeRows(x, lambda v: v), unit(x))

    labelled = LabelledSet(images("zeroshot"), torch.arange(N), [y, y * 2])
    return HeldOut(images("captioned"), y, torch.arange(N), {"caltech101": labelled})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    recipe = {**RECIPE, "batch": 16, "epochs": 1.0}
    words = torch.randn(30, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))
    return Bench(random_inputs(), lambda: words, random_held_out(), recipe, tmp_path)


def test_every_case_has_a_name_of_its_own_and_the_dense_one_comes_before_its_decompositions() -> (
    None
):
    names = [case.name for case in all_cases()]
    assert len(names) == len({*names})
    first = names.index(dense(grid.NARROW).name)
    assert all(first < names.index(c.name) for c in all_cases() if c.method != "heads")
    assert {case.name for case in baselines().values()} <= {*names}


def test_only_the_named_settings_differ_between_cases() -> None:
    plain = head_run(Case("", "heads"), 0, RECIPE).to_json()
    for case in all_cases():
        if case.method == "heads":
            run = head_run(case, 0, RECIPE).to_json()
            assert {k for k in run if run[k] != plain[k]} <= {*case.settings}, case.name


def test_the_dense_control_has_the_parameters_of_the_sparse_heads() -> None:
    inputs: Any = SimpleNamespace(width=1280, text_width=384)
    hidden = same_size_hidden(inputs, 4096, 512)
    sparse = sum((w + 1) * 4096 for w in (1280, 384))
    control = sum((w + 1) * hidden + (hidden + 1) * 512 for w in (1280, 384))
    assert abs(control - sparse) / sparse < 1e-3


@pytest.mark.parametrize(
    "case",
    [
        Case("relu", "heads", {"features": 16}),
        Case("topk", "heads", {"features": 16, "activation": "topk", "k": 3}),
        grid.DENSE_SAME_SIZE,
        *(grid.sae(kind) for kind in grid.SAES),
        grid.SPLICE,
    ],
    ids=lambda case: case.name,
)
def test_each_method_runs_and_is_not_run_again(bench: Bench, case: Case) -> None:
    if case.method != "heads":
        bench.run(dense(grid.NARROW), 0)
    assert bench.finished(case, 0) is None
    measures = bench.run(case, 0)
    assert bench.finished(case, 0) == measures
    assert bench.finished(case, 1) is None
    assert {"t2i@1", "caltech101", "zeroshot", "l0", "dead"} <= measures.keys()
    assert ("decoded zeroshot" in measures) == (case.method == "sae")


def test_a_run_of_another_recipe_is_not_taken_for_this_one(bench: Bench) -> None:
    case = Case("relu", "heads", {"features": 16})
    bench.run(case, 0)
    bench.recipe["lr"] = 0.5
    with pytest.raises(SparsightError, match="other settings"):
        bench.finished(case, 0)


def test_measures_of_a_perfect_code_are_perfect_and_l0_counts_both_signs() -> None:
    held_out = random_held_out()
    x, y = held_out.photographs.rows.vectors, held_out.captions
    likeness = torch.linalg.lstsq(x, y).solution  # the texts are a linear image of the vectors
    model = Model(lambda v: v @ likeness, lambda v: v, TEXT_WIDTH, 0)
    found = measure(model, held_out)
    assert found["t2i@1"] == found["i2t@1"] == found["zeroshot"] == 1.0
    assert found["l0"] == TEXT_WIDTH
    assert found["density"] == 1.0
    assert found["images"] == 2 * N


def test_decoding_changes_what_is_compared_and_not_what_is_counted() -> None:
    held_out = random_held_out()
    likeness = torch.linalg.lstsq(held_out.photographs.rows.vectors, held_out.captions).solution
    model = Model(lambda v: v, lambda v: v, WIDTH, 0, decode=lambda code: code @ likeness)
    found = measure(model, held_out)
    assert found["zeroshot"] == 1.0
    assert found["l0"] == WIDTH


def test_the_report_has_every_row_and_verdict() -> None:
    keys = [
        "t2i@1", "t2i@5", "t2i@10", "i2t@1", "i2t@5", "i2t@10", "zeroshot", "caltech101",
        "catsdogs", "grocery", "imagenet", "l0", "density", "features", "dead", "parameters",
    ]  # fmt: skip
    runs = {
        case.name: [{key: 0.25 + 0.01 * seed for key in keys} for seed in range(3)]
        for case in all_cases()
    }
    table, curves = baseline_table(runs), observations(runs)
    for title in baselines():
        assert f"| {title} |" in table
    assert table.count(", decoded |") == 3
    assert "26.0 ± 1.0" in table  # mean and half the range, in per cent
    assert curves.count("\n| ") == 2 * 6 + 6 + 6 + 3 + 3 + 1
    found = verdicts(runs)
    # Equal everywhere: nothing is above anything, so only "no loss" claims and density hold.
    assert [[claim.held for claim in v.claims] for v in found] == [
        [False, True, False, True],
        [False, False],
        [False, True, False],
    ]
    lines = verdict_lines(found)
    for n, verdict in enumerate(found, 1):
        assert f"**{n}. {verdict.observation}: {verdict.word}.**" in lines
