import pytest
import torch
from torch import Tensor

from sparse_encoder.baselines.sae import KINDS, SaeConfig, squared_error
from sparse_encoder.baselines.sae_training import train_sae
from sparse_encoder.errors import SparsightError


def made_of_parts(n: int = 800, parts: int = 12, width: int = 8) -> Tensor:
    """Rows that are each the sum of two of a few directions, in another scale and off centre."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(
        torch.randn(parts, width, generator=generator), dim=1
    )
    weight = torch.zeros(n, parts)
    chosen = torch.rand(n, parts, generator=generator).topk(2).indices
    weight.scatter_(1, chosen, torch.rand(n, 2, generator=generator) + 0.5)
    return (weight @ directions + 0.3) * 0.05


def config(kind: str, **changed: object) -> SaeConfig:
    settings = {"features": 32, "k": 2, "l1": 0.1, "steps": 120, "batch": 64, "lr": 1e-2}
    return SaeConfig(kind, **{**settings, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_training_explains_most_of_what_few_directions_made(kind: str) -> None:
    rows = made_of_parts()
    sae = train_sae(lambda index: rows[index], len(rows), config(kind))
    code = sae(rows)
    unexplained = squared_error(rows, sae.decode(code)) / (rows - rows.mean(0)).square().mean()
    assert float(unexplained) < 0.45
    assert float((code > 0).float().sum(1).mean()) < 16  # of 32
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(32))


def test_the_batch_rule_keeps_about_k_a_row_after_training_too() -> None:
    rows = made_of_parts()
    few = config("matryoshka_batch_topk", steps=60)
    sae = train_sae(lambda index: rows[index], len(rows), few)
    assert 0.8 < float((sae(rows) > 0).float().sum(1).mean()) < 3


def test_a_higher_l1_weight_gives_a_sparser_code() -> None:
    rows = made_of_parts()
    l0 = []
    for weight in (0.02, 3.0):
        sae = train_sae(
            lambda index: rows[index], len(rows), config("relu_l1", l1=weight, steps=60)
        )
        l0.append(float((sae(rows) > 0).float().sum(1).mean()))
    assert l0[0] > l0[1] > 0


def test_equal_seeds_give_equal_autoencoders_and_leave_the_random_state_alone() -> None:
    rows = made_of_parts()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, other, third = (
        train_sae(lambda index: rows[index], len(rows), config("topk", steps=5, seed=seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.encoder, other.encoder)
    assert not torch.equal(one.encoder, third.encoder)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    rows = made_of_parts()
    rows[7] = float("nan")
    with pytest.raises(SparsightError, match="at step 0"):
        train_sae(lambda index: rows[index], len(rows), config("topk"))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(SparsightError, match="at least one"):
        train_sae(lambda index: torch.zeros(len(index), 4), 0, config("topk"))
