"""The sparse projector against its dense twin."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.projector import Projector, ProjectorConfig
from vlm.projector_file import projector_config, projector_entry
from vlm.train_config import vlm_run
from vlm.tuning.config import tune_run


def _projector(seed: int = 0) -> Projector:
    torch.manual_seed(seed)
    projector = Projector(ProjectorConfig(features=40, hidden=12, grid=(4, 4), groups=(2, 2)))
    torch.nn.init.normal_(projector.second.weight)
    torch.nn.init.normal_(projector.slot)
    return projector


def _rows(seed: int, n_rows: int, density: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(n_rows, 40, generator=generator)
    return rows * (torch.rand(n_rows, 40, generator=generator) < density)


@given(seed=st.integers(0, 2**31 - 1), density=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_the_sparse_path_equals_the_dense_one_forward_and_backward(
    seed: int, density: float
) -> None:
    projector, rows = _projector(), _rows(seed, 3 * 17, density)
    sparse = projector(Codes.from_dense(rows, (4, 4)))
    sparse.square().sum().backward()
    gradients = [p.grad.clone() for p in projector.parameters() if p.grad is not None]
    projector.zero_grad()
    dense = projector.forward_dense(rows.view(3, 17, 40), (4, 4))
    dense.square().sum().backward()
    torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, projector.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, atol=1e-3, rtol=1e-4)


def test_an_image_gives_a_token_for_itself_and_one_for_each_group() -> None:
    assert _projector()(Codes.from_dense(_rows(0, 2 * 17, 0.2), (4, 4))).shape == (2, 5, 12)


def test_a_code_without_cells_gives_the_global_token_alone_and_the_same_one() -> None:
    projector, rows = _projector(), _rows(1, 17, 0.2)
    whole = projector(Codes.from_dense(rows, (4, 4)))
    alone = projector(Codes.from_dense(rows[:1]))
    assert alone.shape == (1, 1, 12)
    torch.testing.assert_close(alone[0, 0], whole[0, 0])


def test_cell_tokens_are_projections_of_the_mean_code_of_their_cells() -> None:
    projector, rows = _projector(), _rows(2, 17, 0.5)
    tokens = projector(Codes.from_dense(rows, (4, 4)))[0]
    top_right = rows[1:].view(4, 4, 40)[:2, 2:].mean((0, 1))
    hidden = top_right @ projector.first + projector.slot[2]
    expected = hidden + projector.second(torch.nn.functional.gelu(hidden))
    torch.testing.assert_close(tokens[2], expected, atol=1e-5, rtol=1e-5)


def test_groups_that_do_not_divide_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="equal groups"):
        ProjectorConfig(features=40, hidden=12, grid=(9, 9), groups=(2, 2))


@pytest.mark.parametrize("removal", [-0.1, float("nan"), float("inf")])
def test_what_is_no_removal_is_refused(removal: float) -> None:
    with pytest.raises(SparsightError, match="expected a finite number from 0 up"):
        ProjectorConfig(40, 12, (4, 4), (2, 2), removal)
    with pytest.raises(SparsightError, match="removal="):
        vlm_run("tiny", {"removal": removal})
    with pytest.raises(SparsightError, match="removal="):
        tune_run("tiny-8x", {"removal": removal})


@pytest.mark.parametrize("removal", [0.0, 2.5])
def test_the_entry_in_the_config_gives_back_the_sizes(removal: float) -> None:
    entry = json.loads(json.dumps(projector_entry((2, 2), removal)))
    config = ProjectorConfig(40, 12, (4, 4), (2, 2), removal)
    assert projector_config(entry, 40, 12, (4, 4)) == config
    assert ("removal" in entry) == bool(removal), "an older reader knows groups alone"
