"""The paper's grid where an absolute strength is above the largest dose: told, and not a crash at its end."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.dataset import Sample
from tests.tiny_model import png
from vlm.answer_batches import Question
from vlm.concepts import resolve
from vlm.corruption import CorruptionRules
from vlm.mention import Lexicon
from vlm.steering_evaluation.answer_book import KeptAnswer
from vlm.steering_evaluation.paper_grid import KS, STRENGTHS, paper_grid
from vlm.steering_evaluation.photographs import Photographs
from vlm.steering_evaluation.sbert import Sbert
from vlm.steering_evaluation.wishes import Bench
from vlm.verdicts import Judge


@pytest.mark.parametrize(("scale", "refused"), [(1.0, set()), (0.5, {8.0}), (0.2, {2.0, 4.0, 8.0})])
def test_wishes_above_the_largest_dose_are_left_out_and_counted(
    scale: float,
    refused: set[float],
    tiny_atlas: FeatureAtlas,
    fake_encode_text: Callable[[list[str]], Tensor],
) -> None:
    atlas = replace(tiny_atlas, p99=tiny_atlas.p99 * scale)

    def ask(stage: str, questions: Sequence[Question]) -> list[KeptAnswer]:
        for question in questions:
            resolve(question.edits, atlas, fake_encode_text)  # as the pipeline would
        return [KeptAnswer("A thing.", "stop", 3)] * len(questions)

    samples = [Sample(name, png(i), label=name) for i, name in enumerate(("dog", "cat"))]
    photographs = Photographs.ask(ask, samples, 0)
    lexicons = {name: Lexicon.for_concept(name) for name in ("dog", "cat")}
    rules = CorruptionRules.fit(photographs.unsteered, [None, None])
    bench = Bench(ask, photographs, lexicons, Judge(rules), 0)
    sbert = Sbert(lambda texts: fake_encode_text(texts) + 0.1)
    grid = paper_grid(bench, atlas, fake_encode_text, sbert, 2, "What?")
    assert [(cell.k, cell.ss) for cell in grid.cells] == [(k, ss) for k in KS for ss in STRENGTHS]
    for cell in grid.cells:
        assert (cell.n_refused > 0) == (cell.ss in refused)
        assert cell.n_refused + cell.success.eligible == grid.n_images == 2
