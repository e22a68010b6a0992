"""The features of a request's edits are looked up once for a folder; shared out, one edit has no rival."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo, tiny_pipeline
from vlm import steerer
from vlm.edits import Edit
from vlm.pipeline import Pipeline
from vlm.share_out import share_out

DOG = (Edit("ablate", concept="dog", k=2), Edit("clamp", concept="cat", value=1.0, k=2))


@pytest.fixture
def tiny() -> Pipeline:
    return tiny_pipeline()


def test_the_same_edits_of_further_photographs_are_not_looked_up_again(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    resolve = steerer.resolve
    monkeypatch.setattr(steerer, "resolve", lambda *a, **b: calls.append(a) or resolve(*a, **b))
    found = [tiny.steer(tiny.encode([photo(seed)]), DOG) for seed in range(3)]
    assert len(calls) == 1
    plain = tiny_pipeline()
    for seed, one in enumerate(found):
        plain.kept_edits.clear()
        assert one.applied == plain.steer(plain.encode([photo(seed)]), DOG).applied
    tiny.steer(tiny.encode([photo(0)]), (replace(DOG[0], k=1), DOG[1]))
    assert len(calls) == 2 + 3  # with those of the plain one


def test_another_atlas_and_refused_edits_are_looked_up_again(tiny: Pipeline) -> None:
    codes = tiny.encode([photo(0)])
    before = tiny.steer(codes, DOG[1:]).applied
    tiny.atlas = replace(tiny.atlas, p99=2 * tiny.atlas.p99)
    after = tiny.steer(codes, DOG[1:]).applied
    assert {done.feature: 2 * (done.dose_raw or 0) for done in before} == pytest.approx(
        {done.feature: done.dose_raw for done in after}
    )
    for _ in range(2):
        with pytest.raises(SparsightError, match="zzyzx"):
            tiny.steer(codes, (Edit("ablate", concept="zzyzx"),))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0.1, 9)), unique_by=lambda w: w[0]),
    st.integers(1, 16),
)
def test_one_edit_gets_what_it_would_beside_one_that_wants_nothing(
    wishes: list[tuple[int, float]], k: int
) -> None:
    wishes.sort(key=lambda wish: -wish[1])
    edits = [Edit("ablate", concept="dog"), Edit("ablate", concept="cat", image=1)]
    alone = share_out(edits, {0: wishes}, {0: k})
    assert alone == {0: share_out(edits, {0: wishes, 1: []}, {0: k, 1: k})[0]}
