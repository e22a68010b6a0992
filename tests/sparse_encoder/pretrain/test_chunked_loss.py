"""The losses that never hold the codes, against the plain ones that do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_encoder.contrastive import similarity_scale, unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.pretrain.chunked_loss import chunked_infonce, chunked_siglip
from sparse_encoder.pretrain.code_chunks import Blocking
from tests.sparse_encoder.pretrain.plain_contrast import (
    Pairs,
    open_clip_losses,
    plain_infonce,
    plain_siglip,
    relative_error,
)

CAP = 50.0
SHAPES = [  # pairs, image width, text width, features, rows with an empty code
    (1, 3, 4, 7, 0),
    (2, 8, 8, 64, 0),
    (13, 5, 3, 97, 2),
    (37, 16, 11, 301, 3),
]
BLOCKINGS = [
    None,
    Blocking(images=5, texts=5, features=16),
    Blocking(images=3, texts=64, features=1000),
    Blocking(images=64, texts=4, features=33),
]


def scale_of(pairs: Pairs) -> Tensor:
    return similarity_scale(pairs.log_scale, CAP)


def infonce(pairs: Pairs, blocking: Blocking | None = None) -> Tensor:
    return chunked_infonce(*pairs.sides, scale_of(pairs), blocking).loss


def siglip(pairs: Pairs, blocking: Blocking | None = None) -> Tensor:
    return chunked_siglip(*pairs.sides, scale_of(pairs), pairs.offset, blocking).loss


def assert_equal(
    pairs: Pairs,
    ours: Callable[[Pairs], Tensor],
    theirs: Callable[[Pairs], Tensor],
    within: float,
) -> None:
    """Loss and the gradient of every leaf agree to a relative error of `within`."""
    loss, other = ours(pairs), theirs(pairs)
    assert relative_error(loss.detach(), other.detach()) < within
    found, expected = pairs.gradients(loss), pairs.gradients(other)
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            assert relative_error(found[name], gradient) < within, name


@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_infonce_and_every_gradient_equal_the_plain_loss(
    shape: tuple[int, ...], blocking: Blocking | None, activation: str
) -> None:
    n, image_width, text_width, features, n_empty = shape
    pairs = Pairs(n, (image_width, text_width), features, 1, activation, n_empty)
    assert_equal(
        pairs,
        lambda p: infonce(p, blocking),
        lambda p: plain_infonce(*p.sides, scale_of(p)),
        within=1e-5,
    )


@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_infonce_and_every_gradient_equal_open_clips(
    shape: tuple[int, ...], blocking: Blocking | None
) -> None:
    n, image_width, text_width, features, n_empty = shape
    clip_loss = open_clip_losses().ClipLoss()

    def theirs(p: Pairs) -> Tensor:
        image = functional.normalize(p.image_head(p.image), dim=-1)
        text = functional.normalize(p.text_head(p.text), dim=-1)
        return clip_loss(image, text, scale_of(p))

    pairs = Pairs(n, (image_width, text_width), features, 2, n_empty=n_empty)
    assert_equal(pairs, lambda p: infonce(p, blocking), theirs, within=1e-5)


@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_siglip_and_every_gradient_equal_the_plain_loss(
    shape: tuple[int, ...], blocking: Blocking | None
) -> None:
    n, image_width, text_width, features, n_empty = shape
    pairs = Pairs(n, (image_width, text_width), features, 3, n_empty=n_empty)
    assert_equal(
        pairs,
        lambda p: siglip(p, blocking),
        lambda p: plain_siglip(*p.sides, scale_of(p), p.offset),
        within=1e-5,
    )


def test_siglip_and_every_gradient_equal_open_clips() -> None:
    siglip_loss = open_clip_losses().SigLipLoss()

    def theirs(p: Pairs) -> Tensor:
        image, text = unit(p.image_head(p.image)), unit(p.text_head(p.text))
        return siglip_loss(image, text, scale_of(p), p.offset)

    pairs = Pairs(37, (16, 11), 301, 4, n_empty=3)
    assert_equal(pairs, lambda p: siglip(p, BLOCKINGS[1]), theirs, within=1e-5)


@pytest.mark.parametrize("blocking", [None, Blocking(images=300, texts=600, features=20)])
def test_tiles_of_several_strips_change_nothing(blocking: Blocking | None) -> None:
    pairs = Pairs(523, (4, 3), 40, 21, n_empty=2)
    assert_equal(
        pairs,
        lambda p: infonce(p, blocking) + siglip(p, blocking),
        lambda p: (
            plain_infonce(*p.sides, scale_of(p)) + plain_siglip(*p.sides, scale_of(p), p.offset)
        ),
        within=1e-5,
    )


@settings(max_examples=60)
@given(
    n=st.integers(1, 12),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    features=st.integers(1, 40),
    blocking=st.builds(Blocking, st.integers(1, 14), st.integers(1, 14), st.integers(1, 45)),
    n_empty=st.integers(0, 3),
    seed=st.integers(0, 2**31 - 1),
    activation=st.sampled_from(["relu", "identity"]),
    softmax=st.booleans(),
)
def test_no_shape_and_no_blocking_changes_loss_or_gradients(
    n: int,
    widths: tuple[int, int],
    features: int,
    blocking: Blocking,
    n_empty: int,
    seed: int,
    activation: str,
    softmax: bool,
) -> None:
    pairs = Pairs(n, widths, features, seed, activation, min(n, n_empty)).double()
    if softmax:
        ours, theirs = infonce(pairs, blocking), plain_infonce(*pairs.sides, scale_of(pairs))
    else:
        ours = siglip(pairs, blocking)
        theirs = plain_siglip(*pairs.sides, scale_of(pairs), pairs.offset)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    found, expected = pairs.gradients(ours), pairs.gradients(theirs)
    for name, gradient in expected.items():
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("blocking", [None, Blocking(2, 3, 4)])
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_gradients_equal_finite_differences(activation: str, blocking: Blocking | None) -> None:
    pairs = Pairs(5, (3, 4), 11, 5, activation).double()

    def both(image: Tensor, text: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        heads = [SparseHead(3, 11, 0, activation), SparseHead(4, 11, 0, activation)]
        for head, weight, bias in zip(heads, rest[:2], rest[2:4], strict=True):
            del head.weight, head.bias
            head.weight, head.bias = weight, bias  # type: ignore[assignment]
        scale, offset = similarity_scale(rest[4], CAP), rest[5]
        infonce = chunked_infonce(image, text, *heads, scale, blocking).loss
        return infonce, chunked_siglip(image, text, *heads, scale, offset, blocking).loss

    image, text, image_head, text_head = pairs.sides
    weights = (image_head.weight, text_head.weight, image_head.bias, text_head.bias)
    leaves = (image, text, *weights, pairs.log_scale, pairs.offset)
    assert torch.autograd.gradcheck(both, leaves)


def test_a_row_with_an_empty_code_is_alike_to_nothing_and_gets_no_gradient() -> None:
    pairs = Pairs(4, (6, 6), 32, 6, n_empty=1)
    found = pairs.gradients(infonce(pairs))
    assert found["image"] is not None and found["text"] is not None
    assert (found["image"][0] == 0).all() and (found["image"][1:] != 0).any(1).all()
    assert (found["text"][3] == 0).all() and (found["text"][:3] != 0).any(1).all()


def test_a_batch_of_empty_codes_has_the_loss_of_chance() -> None:
    pairs = Pairs(8, (6, 6), 32, 6, n_empty=8)
    loss = infonce(pairs, Blocking(3, 3, 8))
    torch.testing.assert_close(loss, torch.tensor(8.0).log())
    assert all((g == 0).all() for g in pairs.gradients(loss).values() if g is not None)


def test_codes_shorter_than_the_least_length_are_treated_as_by_the_plain_loss() -> None:
    pairs = Pairs(6, (4, 4), 16, 7, "identity").double()
    with torch.no_grad():
        pairs.image_head.bias.zero_()
        pairs.image[:3] *= 1e-8
    assert_equal(pairs, infonce, lambda p: plain_infonce(*p.sides, scale_of(p)), within=1e-9)


@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("n_empty", [0, 3])
def test_counts_are_those_of_the_codes(blocking: Blocking | None, n_empty: int) -> None:
    pairs = Pairs(21, (5, 9), 130, 8, n_empty=n_empty)
    with torch.no_grad():
        pairs.image_head.bias[:17] = -99  # features that nothing activates
    found = chunked_infonce(*pairs.sides, scale_of(pairs), blocking)
    for counts, code in (
        (found.image, pairs.image_head(pairs.image)),
        (found.text, pairs.text_head(pairs.text)),
    ):
        active = code > 0
        assert float(counts.l0) == pytest.approx(float(active.float().sum(1).mean()))
        assert int(counts.active_features) == int(active.any(0).sum())
        assert int(counts.empty_rows) == int((~active.any(1)).sum()) >= n_empty
        assert not counts.l0.requires_grad
    assert int(found.image.active_features) <= 130 - 17


def test_a_scale_at_its_cap_has_no_gradient() -> None:
    pairs = Pairs(5, (4, 4), 16, 9)
    with torch.no_grad():
        pairs.log_scale.fill_(9.0)
    gradient = pairs.gradients(infonce(pairs))["log_scale"]
    assert gradient is not None and float(gradient) == 0


@pytest.mark.parametrize("blocking", [None, Blocking(4, 4, 8)])
def test_a_second_backward_pass_gives_the_same_gradients(blocking: Blocking | None) -> None:
    pairs = Pairs(9, (4, 5), 33, 10)
    loss = infonce(pairs, blocking)
    leaves = list(pairs.sides[:2])
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    again = torch.autograd.grad(loss, leaves)
    torch.testing.assert_close(again, first)


def test_gradients_follow_the_factor_that_the_loss_is_multiplied_by() -> None:
    pairs = Pairs(9, (4, 5), 33, 11)
    once, thrice = pairs.gradients(siglip(pairs)), pairs.gradients(3 * siglip(pairs))
    for name, gradient in once.items():
        assert gradient is not None
        assert relative_error(thrice[name], 3 * gradient) < 1e-5


def test_one_head_for_both_towers_gets_the_sum_of_their_gradients() -> None:
    pairs = Pairs(9, (5, 5), 33, 12)
    pairs.text_head = pairs.image_head
    assert_equal(pairs, infonce, lambda p: plain_infonce(*p.sides, scale_of(p)), within=1e-5)


@pytest.mark.parametrize("frozen", ["image", "text", "image_head", "text_head.weight", "log_scale"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen: str) -> None:
    pairs = Pairs(9, (4, 5), 33, 13)
    free = {k: g.clone() for k, g in pairs.gradients(infonce(pairs)).items() if g is not None}
    for name, leaf in pairs.named_parameters():
        leaf.requires_grad_(not name.startswith(frozen))
        leaf.grad = None
    infonce(pairs).backward()
    for name, leaf in pairs.named_parameters():
        if name.startswith(frozen):
            assert leaf.grad is None
        elif name in free:
            torch.testing.assert_close(leaf.grad, free[name])


def test_without_gradients_the_loss_is_the_same() -> None:
    pairs = Pairs(9, (4, 5), 33, 14)
    with torch.no_grad():
        found = infonce(pairs, Blocking(4, 5, 8))
    torch.testing.assert_close(found, infonce(pairs).detach())


def test_weights_changed_before_the_backward_pass_are_refused() -> None:
    # The codes are computed again from the weights, so other weights would be a wrong gradient.
    pairs = Pairs(4, (4, 5), 33, 15)
    loss = infonce(pairs)
    with torch.no_grad():
        pairs.image_head.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("loss", [infonce, siglip])
def test_bf16_inputs_give_nearly_the_loss_and_gradients_of_fp32(
    loss: Callable[..., Tensor],
) -> None:
    pairs = Pairs(24, (32, 32), 512, 16).bfloat16()
    found = loss(pairs, Blocking(10, 10, 100))
    assert found.dtype == torch.float32
    low = pairs.gradients(found)
    assert all(g is None or g.dtype == torch.bfloat16 for g in low.values())
    low = {name: None if g is None else g.clone() for name, g in low.items()}
    exact = pairs.float()  # the same rounded inputs
    reference = loss(exact)
    assert relative_error(found.detach(), reference.detach()) < 5e-3
    for name, gradient in exact.gradients(reference).items():
        if gradient is not None:
            assert relative_error(low[name], gradient) < 2e-2, name


def test_sums_over_many_chunks_are_not_rounded_to_bf16() -> None:
    # 512 chunks of one active feature each: a bf16 sum of ones stops growing at 256.
    features = 512
    head = SparseHead(1, features).bfloat16()
    with torch.no_grad():
        head.weight.fill_(1)
        head.bias.zero_()
    one = torch.ones(2, 1, dtype=torch.bfloat16)
    four = torch.tensor(4.0)
    found = chunked_siglip(one, one, head, head, four, -four, Blocking(2, 2, 1))
    assert float(found.image.l0) == features
    # Equal codes, so every cosine is 1, every logit 0 and each of the four pairs costs ln 2.
    torch.testing.assert_close(found.loss, 2 * torch.tensor(2.0).log())


def test_under_autocast_codes_are_made_in_its_dtype() -> None:
    pairs = Pairs(24, (32, 32), 512, 17)
    with torch.autocast("cpu", torch.bfloat16):
        found = infonce(pairs)
    assert found.dtype == torch.float32
    low = pairs.gradients(found)
    assert all(g is None or g.dtype == torch.float32 for g in low.values())
    rounded = infonce(pairs.bfloat16())
    torch.testing.assert_close(found.detach(), rounded.detach(), atol=2e-3, rtol=0)


class Largest(TorchDispatchMode):
    """The most entries of any one tensor that an operation made, and where each lay."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0
        self.at: dict[int, int] = {}  # address -> most entries there

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, (tuple, list)) else [out]
        for tensor in made:
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.numel())
                address = tensor.untyped_storage().data_ptr()
                self.at[address] = max(self.at.get(address, 0), tensor.numel())
        return out


def largest_of(loss: Callable[[Pairs], Tensor], pairs: Pairs) -> int:
    with Largest() as seen:
        loss(pairs).backward()
    return seen.entries


@pytest.mark.parametrize("loss", [infonce, siglip])
def test_no_tensor_is_as_large_as_codes_or_similarities(loss: Callable[..., Tensor]) -> None:
    n, width, features = 64, 2, 1024
    pairs = Pairs(n, (width, width), features, 18)
    tile, chunk = 16, 32
    found = largest_of(lambda p: loss(p, Blocking(tile, tile, chunk)), pairs)
    outputs = max(features * width, n * width)  # gradients: any loss makes them
    assert found <= max(tile * tile, tile * chunk, outputs)
    assert found < n * n < n * features


@pytest.mark.parametrize("loss", [infonce, siglip])
def test_a_tile_is_the_only_tensor_of_its_size(loss: Callable[..., Tensor]) -> None:
    n = 600  # more rows than a strip of logits has
    pairs = Pairs(n, (2, 2), 64, 22)
    with Largest() as seen:
        loss(pairs).backward()
    assert sum(entries >= n * n for entries in seen.at.values()) == 1


def test_the_plain_loss_and_too_large_blocks_are_caught_holding_codes() -> None:
    # Else the test above could not fail.
    n, features = 64, 1024
    pairs = Pairs(n, (2, 2), features, 19)
    assert largest_of(lambda p: plain_infonce(*p.sides, scale_of(p)), pairs) >= n * features
    assert largest_of(lambda p: infonce(p, Blocking(16, 16, features)), pairs) >= 16 * features
    assert largest_of(lambda p: infonce(p, Blocking(n, n, 16)), pairs) >= n * n


@given(
    budget=st.integers(1, 2**34),
    images=st.integers(1, 200_000),
    texts=st.integers(1, 200_000),
    features=st.integers(1, 200_000),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_a_blocking_keeps_to_its_budget(
    budget: int, images: int, texts: int, features: int, device: str
) -> None:
    found = Blocking.within(budget, images, texts, features, device)
    assert 1 <= found.images <= images and 1 <= found.texts <= texts
    assert 1 <= found.features <= min(features, 1024)
    assert 4 * found.images * found.texts <= max(budget / 2, 4)
    chunk = 2 * 4 * (found.images + found.texts) * found.features
    assert chunk <= budget / 2 or found.features == min(features, 64)


def test_a_batch_that_the_budget_holds_is_one_tile() -> None:
    assert Blocking.within(512 * 2**20, 8192, 8192, 55_296).tiles(8192, 8192) == [
        (slice(0, 8192), slice(0, 8192))
    ]
    assert len(Blocking.within(512 * 2**20, 65_536, 65_536, 16_384).tiles(65_536, 65_536)) == 64
    # 128 own images against the texts of 256 ranks lie in one tile, long as it is.
    assert len(Blocking.within(512 * 2**20, 128, 32_768, 55_296).tiles(128, 32_768)) == 1


def _bad_calls() -> list[tuple[Callable[[], object], str]]:
    pairs, one = Pairs(4, (3, 5), 16), torch.tensor(1.0)
    image, text, image_head, text_head = pairs.sides
    topk = SparseHead(3, 16)
    topk.activation = "topk"
    return [
        (lambda: chunked_infonce(image[:3], text, image_head, text_head, one), "3 images and 4"),
        (lambda: chunked_infonce(image[:0], text[:0], image_head, text_head, one), "at least one"),
        (lambda: chunked_infonce(text, text, image_head, text_head, one), r"\(batch, 3\)"),
        (lambda: chunked_infonce(image, image, image_head, text_head, one), r"\(batch, 5\)"),
        (lambda: chunked_infonce(image[0], text, image_head, text_head, one), "image trunk"),
        (
            lambda: chunked_siglip(image, text, image_head, SparseHead(5, 9), one, one),
            "16 and 9 features",
        ),
        (lambda: chunked_infonce(image, text, topk, text_head, one), "'topk'"),
        (lambda: Blocking(0, 1, 1), "0 images"),
        (lambda: Blocking(1, 1, -3), "-3 features"),
    ]


@pytest.mark.parametrize(("call", "word"), _bad_calls())
def test_arguments_that_do_not_fit_are_refused_in_words(
    call: Callable[[], object], word: str
) -> None:
    with pytest.raises(SparsightError, match=word) as caught:
        call()
    assert caught.value.param


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_loss_and_gradients_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pairs = Pairs(200, (32, 48), 700, 20)
    reference = pairs.gradients(infonce(pairs))
    expected = {k: g.clone() for k, g in reference.items() if g is not None}
    found = pairs.to("cuda", dtype)
    gradients = found.gradients(infonce(found, Blocking(64, 80, 100)))
    for name, gradient in expected.items():
        moved = gradients[name]
        assert moved is not None
        assert relative_error(moved.cpu(), gradient) < (1e-5 if dtype == torch.float32 else 5e-2)
