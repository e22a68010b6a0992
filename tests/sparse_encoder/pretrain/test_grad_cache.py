from collections.abc import Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from sparse_encoder.pretrain.grad_cache import backward_whole_batch


def two_trunks(dropout: float = 0.0) -> tuple[nn.Module, nn.Module, nn.Parameter]:
    torch.manual_seed(0)
    image = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, 4))
    text = nn.Sequential(nn.Linear(3, 4), nn.Dropout(dropout))
    return image.double(), text.double(), nn.Parameter(torch.tensor(2.0, dtype=torch.float64))


def contrast(scale: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    image, text = (nn.functional.normalize(x) for x in outputs)
    target = torch.arange(len(image))
    return nn.functional.cross_entropy(scale * image @ text.T, target)


def inputs(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, w, generator=generator, dtype=torch.float64) for w in (5, 3))  # type: ignore[return-value]


@pytest.mark.parametrize("micro", [12, 6, 5, 1])
def test_gradients_are_those_of_one_whole_batch(micro: int) -> None:
    image, text, scale = two_trunks()
    x, y = inputs(12)
    plain = contrast(scale, [image(x), text(y)])
    plain.backward()
    parameters = [*image.parameters(), *text.parameters(), scale]
    expected = [p.grad.clone() for p in parameters if p.grad is not None]
    for p in parameters:
        p.grad = None
    loss = backward_whole_batch(
        [image, text], [x.split(micro), y.split(micro)], lambda out: contrast(scale, out)
    )
    assert loss == pytest.approx(plain.item())
    assert len(expected) == len(parameters)
    for p, e in zip(parameters, expected, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, e)


def test_dropout_drops_the_same_in_both_passes() -> None:
    """Seen by a loss whose gradient is the output itself, zero where something was dropped."""
    image, _, _ = two_trunks(dropout=0.5)
    last = nn.Dropout(0.5)
    trunk = nn.Sequential(image, last)
    seen: list[Tensor] = []
    last.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    x, _ = inputs(8)
    backward_whole_batch([trunk], [x.split(2)], lambda out: out[0].square().sum())
    first, second = seen[:4], seen[4:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1] == 0)


def test_the_random_state_goes_on_after_the_first_pass() -> None:
    image, _, _ = two_trunks(dropout=0.5)
    x, _ = inputs(4)
    backward_whole_batch([image], [x.split(2)], lambda out: out[0].sum())
    after_one = torch.get_rng_state()
    backward_whole_batch([image], [x.split(2)], lambda out: out[0].sum())
    assert not torch.equal(after_one, torch.get_rng_state())


def test_ranks_are_averaged_once_for_the_last_micro_batch() -> None:
    image, text, scale = two_trunks()
    x, y = inputs(6)
    held: list[nn.Module] = []

    @contextmanager
    def no_sync(trunk: nn.Module):  # type: ignore[no-untyped-def]
        held.append(trunk)
        yield

    backward_whole_batch(
        [image, text], [x.split(2), [y]], lambda out: contrast(scale, out), no_sync=no_sync
    )
    assert held == [image, image]
