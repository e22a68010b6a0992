"""Gradient times activation against finite differences, and where it is exact."""

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from vlm.explain.attribution import attribute
from vlm.explain.captioner import Captioner
from vlm.pipeline import Pipeline

SAID, WORD = [70, 80, 90], [75, 76]


def rescaled(codes: Codes, feature: int, factor: float, rows: slice) -> Codes:
    dense = codes.dense()
    dense[rows, feature] *= factor
    return Codes.from_dense(dense, codes.grid)


def test_each_features_attribution_is_the_slope_of_scaling_it(
    codes: Codes, captioner: Captioner
) -> None:
    found = attribute(codes, lambda code: captioner.log_probs(code, SAID, WORD))
    step = 0.02
    for which, rows in ((found.from_global, slice(0, 1)), (found.from_cells, slice(1, None))):
        slopes = []
        for feature in range(codes.n_features):
            up, down = (
                float(captioner.log_probs(rescaled(codes, feature, factor, rows), SAID, WORD))
                for factor in (1 + step, 1 - step)
            )
            slopes.append((up - down) / (2 * step))
        slope = torch.tensor(slopes, dtype=torch.float64)
        assert float((which - slope).norm() / slope.norm()) < 0.02
    assert float((found.total - found.from_global - found.from_cells).abs().max()) == 0


def test_of_a_linear_function_the_attributions_add_up_to_its_value(codes: Codes) -> None:
    weight = torch.randn(codes.n_features, generator=torch.Generator().manual_seed(3))

    def linear(code: Codes) -> Tensor:
        return (code.value * weight[code.index]).sum()[None]

    total = attribute(codes, linear).total
    assert abs(float(total.sum()) - float(linear(codes))) < 1e-3
    inactive = codes.dense().sum(0) == 0
    assert bool((total[inactive] == 0).all())


def test_no_gradient_is_left_on_codes_or_weights(
    tiny: Pipeline, codes: Codes, captioner: Captioner
) -> None:
    first = tiny.projector.first.requires_grad_(True)  # as while it is trained
    try:
        attribute(codes, lambda code: captioner.log_probs(code, SAID, WORD))
    finally:
        first.requires_grad_(False)
    assert first.grad is None
    assert not codes.value.requires_grad
