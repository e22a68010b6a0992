import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.baselines.sae import (
    KINDS,
    Sae,
    SaeConfig,
    l1_loss,
    nested_loss,
    revival_loss,
    squared_error,
)
from sparse_encoder.errors import SparsightError

seeds = st.integers(0, 2**31 - 1)


def small(kind: str, seed: int = 0, features: int = 24, width: int = 6) -> tuple[Sae, Tensor]:
    torch.manual_seed(seed)
    sae = Sae(width, SaeConfig(kind, features, k=3, l1=0.3, nested=(0.25, 0.5, 1.0)))
    torch.nn.init.normal_(sae.encoder_bias, std=0.2)
    torch.nn.init.normal_(sae.decoder_bias, std=0.2)
    return sae.requires_grad_(False), torch.randn(10, width)


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_is_never_negative(kind: str) -> None:
    sae, x = small(kind)
    assert (sae(x) >= 0).all()
    assert (sae(x) > 0).any()


@settings(max_examples=10)
@given(seed=seeds)
def test_topk_keeps_the_k_largest_positive_entries_of_each_row(seed: int) -> None:
    sae, x = small("topk", seed)
    for row, before in zip(sae(x).tolist(), sae.pre_code(x).tolist(), strict=True):
        largest = sorted((v for v in before if v > 0), reverse=True)[:3]
        assert sorted((v for v in row if v > 0), reverse=True) == largest


@settings(max_examples=10)
@given(seed=seeds)
def test_the_batch_rule_keeps_k_a_row_on_average_while_it_trains(seed: int) -> None:
    sae, x = small("matryoshka_batch_topk", seed)
    assert int((sae.pre_code(x) > 0).sum()) >= 3 * len(x)
    assert int((sae.train()(x) > 0).sum()) == 3 * len(x)


def test_after_training_a_row_of_the_batch_rule_does_not_depend_on_its_batch() -> None:
    sae, x = small("matryoshka_batch_topk")
    sae.train()(x)
    # One batch leaves it at the very value of an entry, which a product's rounding moves either way.
    sae.get_buffer("batch_topk.threshold").mul_(0.999)
    code = sae.eval()(x)
    alone = torch.cat([sae(row[None]) for row in x])
    torch.testing.assert_close(code, alone)
    assert 0 < int((code > 0).sum()) < x.shape[0] * 24


@settings(max_examples=10)
@given(seed=seeds)
def test_the_nested_loss_is_the_sum_over_prefixes_written_out(seed: int) -> None:
    sae, x = small("matryoshka_batch_topk", seed)
    assert sae.config.prefixes == [6, 12, 24]
    code = sae(x)
    total = 0.0
    for m in (6, 12, 24):
        for row, target in zip(code, x, strict=True):
            made = sae.decoder_bias.clone()
            for k in range(m):
                made = made + row[k] * sae.decoder[k]
            total += float((target - made).square().sum()) / x.numel()
    assert float(nested_loss(sae, x, code)) == pytest.approx(total, rel=1e-4)


def test_with_one_prefix_the_nested_loss_is_the_squared_error() -> None:
    sae, x = small("topk")
    code = sae(x)
    assert float(nested_loss(sae, x, code)) == float(squared_error(x, sae.expand(code)))


def test_the_l1_loss_adds_the_weighted_norm_by_width() -> None:
    sae, x = small("relu_l1")
    code = sae(x)
    norm = float(code.abs().sum(1).mean()) / 6
    expected = float(squared_error(x, sae.expand(code))) + 0.3 * norm
    assert float(l1_loss(sae, x, code)) == pytest.approx(expected, rel=1e-5)


def test_only_dead_features_get_a_gradient_from_the_revival_loss() -> None:
    sae, x = small("topk")
    sae.requires_grad_(True)
    dead = torch.zeros(24, dtype=torch.bool)
    dead[[2, 5, 11]] = True
    pre_code = sae.pre_code(x)
    revival_loss(sae, x, pre_code, sae.activate(pre_code), dead).backward()
    for parameter in (sae.decoder, sae.encoder, sae.encoder_bias):
        assert parameter.grad is not None
        moved = parameter.grad.reshape(24, -1).abs().sum(1) > 0
        assert moved[dead].any()
        assert not moved[~dead].any()


def test_dropping_the_radial_gradient_leaves_a_tangent_and_the_directions_unit() -> None:
    sae, x = small("relu_l1")
    sae.requires_grad_(True)
    l1_loss(sae, x, sae(x)).backward()
    sae.drop_radial_gradient()
    assert sae.decoder.grad is not None
    radial = (sae.decoder.grad * sae.decoder).sum(1)
    torch.testing.assert_close(radial, torch.zeros(24), atol=1e-6, rtol=0)
    with torch.no_grad():
        sae.decoder *= 3
    sae.normalise_decoder()
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(24))


@settings(max_examples=10)
@given(seed=seeds, factor=st.floats(0.01, 100))
def test_codes_do_not_depend_on_the_length_of_the_dense_codes(seed: int, factor: float) -> None:
    sae, x = small("relu_l1", seed)
    sae.fit_scale(x)
    code, back = sae(x), sae.decode(sae(x))
    sae.fit_scale(x * factor)
    torch.testing.assert_close(sae(x * factor), code, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sae.decode(sae(x * factor)) / factor, back, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"kind": "gated"}, "relu_l1"),
        ({"kind": "topk", "k": 0}, "1 to 8"),
        ({"kind": "matryoshka_batch_topk", "k": 9}, "1 to 8"),
        ({"kind": "matryoshka_batch_topk", "k": 2, "nested": (0.5, 0.25, 1.0)}, "rising"),
        ({"kind": "matryoshka_batch_topk", "k": 2, "nested": (0.25, 0.5)}, "the last 1.0"),
        ({"kind": "matryoshka_batch_topk", "k": 2, "nested": ()}, "the last 1.0"),
    ],
)
def test_settings_that_make_no_autoencoder_are_refused(
    settings: dict[str, object], word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        SaeConfig(features=8, **settings)  # type: ignore[arg-type]
