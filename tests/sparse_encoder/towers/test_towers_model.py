"""The whole model: codes, what a chunked loss needs, precision, copies, and parallel wrappers."""

import copy
import math
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparse_encoder.towers import SparseClip, Tokens, train_tokenizer
from sparse_encoder.towers.config import ImageTowerConfig
from tests.sparse_encoder.towers.tiny_towers import (
    TEXTS,
    image_config,
    photos,
    pixels,
    text_config,
    tiny_clip,
)


def _tokens(model: SparseClip) -> Tokens:
    return model.text_trunk.tokenize(TEXTS)


def test_codes_are_non_negative_and_as_wide_as_the_factor_says() -> None:
    model = tiny_clip()
    codes = model(pixels(3), _tokens(model))
    assert codes.image is not None and codes.text is not None
    assert codes.image.shape == codes.text.shape == (3, 128) and model.features == 8 * 16
    assert (codes.image >= 0).all() and (codes.text >= 0).all()
    assert 0 < (codes.image > 0).float().mean() < 1


@pytest.mark.parametrize("features", [1, 77, 300])
def test_a_number_of_features_goes_before_the_factor(features: int) -> None:
    assert tiny_clip(features=features).encode_texts(TEXTS).shape == (3, features)


def test_one_side_alone_gives_one_code() -> None:
    model = tiny_clip()
    both = model(pixels(3), _tokens(model))
    images, texts = model(pixels(3)), model(tokens=_tokens(model))
    assert images.text is None and texts.image is None
    assert torch.equal(images.image, both.image) and torch.equal(texts.text, both.text)


@pytest.mark.parametrize("side", ["image", "text"])
def test_trunk_output_with_the_heads_weight_and_bias_in_chunks_gives_the_code(side: str) -> None:
    model = tiny_clip()
    if side == "image":
        x, head = model.image_trunk_output(pixels(3)), model.image_head
        code = model(pixels(3)).image
    else:
        x, head = model.text_trunk_output(_tokens(model)), model.text_head
        code = model(tokens=_tokens(model)).text
    chunks = zip(head.weight.split(50), head.bias.split(50), strict=True)
    rebuilt = torch.cat([(x @ w.T + b).relu() for w, b in chunks], dim=1)
    torch.testing.assert_close(rebuilt, code)


def test_local_states_have_the_heads_width_and_the_same_pooled_vectors() -> None:
    model = tiny_clip()
    image, text = model.image_states(pixels(3)), model.text_states(_tokens(model))
    assert image.patches.shape == (3, 16, 16)
    assert text.tokens.shape == (3, _tokens(model).ids.shape[1], 16)
    assert torch.equal(image.pooled, model.image_trunk_output(pixels(3)))
    assert torch.equal(text.pooled, model.text_trunk_output(_tokens(model)))


def test_with_the_mean_pool_the_pre_code_is_the_mean_of_the_patches_pre_codes() -> None:
    model = tiny_clip(image=image_config(pool="mean"))
    states = model.image_states(pixels(2))
    mean = model.image_head.pre_code(states.patches).mean(1)
    torch.testing.assert_close(model.image_head.pre_code(states.pooled), mean, atol=1e-5, rtol=1e-4)


def test_without_projections_the_heads_read_the_trunks() -> None:
    wide = tiny_clip()
    model = tiny_clip(
        image=image_config(projection=0),
        text=wide.config.text.__class__(
            width=48, layers=1, heads=2, max_tokens=32, tokenizer="bytes", projection=0
        ),
    )
    assert model.image_head.weight.shape == (256, 32)  # the factor is of the image head's input
    assert model.text_head.weight.shape == (256, 48)


def test_photographs_and_texts_are_encoded_as_their_tensors_are() -> None:
    model = tiny_clip()
    images = photos(3)
    tensors = model(model.image_trunk.preprocess(images), _tokens(model))
    assert torch.equal(model.encode_images(images), tensors.image)
    assert torch.equal(model.encode_texts(TEXTS), tensors.text)


@pytest.mark.parametrize(("loss", "scale"), [("infonce", 1 / 0.07), ("siglip", 10.0)])
def test_the_scale_starts_where_its_loss_does(loss: str, scale: float) -> None:
    model = tiny_clip(loss=loss)
    assert model.scale.shape == () and model.scale.item() == pytest.approx(scale, rel=1e-5)
    assert (model.logit_bias is None) == (loss == "infonce")
    if model.logit_bias is not None:
        assert model.logit_bias.item() == -10


def test_the_scale_is_capped_and_can_come_back() -> None:
    model = tiny_clip(cap=40.0)
    nn.init.constant_(model.log_scale, 9.0)
    assert model.scale.item() == 40
    model.clip_scale()
    assert model.log_scale.item() == pytest.approx(math.log(40))
    model.scale.backward()
    assert model.log_scale.grad is not None and float(model.log_scale.grad) > 0


@pytest.mark.parametrize("activation", ["relu", "topk", "batch_topk", "identity"])
def test_both_heads_have_the_activation_asked_for(activation: str) -> None:
    model = tiny_clip(activation=activation, k=5)
    code = model(pixels(3)).image
    assert code is not None
    active = (code != 0).sum(1)
    assert model.image_head.activation == model.text_head.activation == activation
    assert (active <= 5).all() if activation == "topk" else (active > 5).any()


def test_the_initial_bias_is_in_every_feature_and_a_lower_one_is_sparser() -> None:
    model, sparse = tiny_clip(), tiny_clip(bias=-1.5)
    assert (sparse.image_head.bias == -1.5).all() and (sparse.text_head.bias == -1.5).all()
    assert (sparse.encode_texts(TEXTS) > 0).sum() < (model.encode_texts(TEXTS) > 0).sum()


def test_pre_codes_start_with_a_deviation_near_one() -> None:
    model = tiny_clip(features=2000)
    pre_code = model.image_head.pre_code(model.image_trunk_output(pixels(16)))
    assert 0.5 < float(pre_code.std().detach()) < 2


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_bf16_codes_are_near_the_fp32_ones_and_train(how: str) -> None:
    model = tiny_clip()
    full = model(pixels(3), _tokens(model))
    if how == "weights":
        model = model.bfloat16()
        half = model(pixels(3), _tokens(model))
    else:
        with torch.autocast("cpu", torch.bfloat16):
            half = model(pixels(3), _tokens(model))
    for a, b in zip(half, full, strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.float(), b, atol=0.1, rtol=0.1)
    (half.image.float().sum() + half.text.float().sum()).backward()
    assert torch.isfinite(model.image_head.weight.grad).all()


@pytest.mark.parametrize("words", ["bytes", "trained"])
@pytest.mark.parametrize("way", ["copy", "pickle"])
def test_a_copy_gives_the_same_codes_and_shares_nothing(
    way: str, words: str, tmp_path: Path
) -> None:
    if words == "trained":
        train_tokenizer(TEXTS * 9, 600).save_pretrained(tmp_path)
        words = str(tmp_path)
    model = tiny_clip(activation="batch_topk", k=5, text=text_config(tokenizer=words))
    other = copy.deepcopy(model) if way == "copy" else pickle.loads(pickle.dumps(model))
    before = model.encode_texts(TEXTS)
    assert torch.equal(other.encode_texts(TEXTS), before)
    nn.init.zeros_(other.text_head.weight)
    assert torch.equal(model.encode_texts(TEXTS), before)


def test_the_model_moves_as_a_whole() -> None:
    model = tiny_clip(activation="batch_topk", k=5, loss="siglip").to("meta")
    tensors = [*model.parameters(), *model.buffers()]
    assert all(t.is_meta for t in tensors)
    tokens = Tokens(*(torch.ones(2, 5, dtype=torch.long, device="meta") for _ in range(2)))
    codes = model.train()(torch.empty(2, 3, 32, 32, device="meta"), tokens)
    assert codes.image.is_meta and codes.image.shape == (2, 128)  # no step needs a value or a copy


def test_no_forward_registers_a_parameter_or_a_buffer() -> None:
    model = tiny_clip(activation="batch_topk", k=5).train()
    before = {n for n, _ in [*model.named_parameters(), *model.named_buffers()]}
    model(pixels(2), _tokens(model))
    assert before == {n for n, _ in [*model.named_parameters(), *model.named_buffers()]}


class _Step(nn.Module):
    """What a trainer wraps: the loss is taken inside, so that hooks run."""

    def __init__(self, clip: SparseClip) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        x, y = self.clip.image_trunk_output(images), self.clip.text_trunk_output(Tokens(ids, mask))
        image, text = (
            nn.functional.normalize(nn.functional.linear(v, h.weight, h.bias).relu(), dim=-1)
            for v, h in ((x, self.clip.image_head), (y, self.clip.text_head))
        )
        logits = self.clip.scale * image @ text.T
        return nn.functional.cross_entropy(logits, torch.arange(len(logits)))


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def _trained(step: nn.Module, model: SparseClip) -> list[float]:
    tokens, losses = _tokens(model), []
    optimiser = torch.optim.AdamW(step.parameters(), lr=1e-3)
    for _ in range(3):
        loss = step(pixels(3), tokens.ids, tokens.mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "vit"])
def test_training_under_a_wrapper_equals_plain_training(wrapper: str, family: str) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    image: ImageTowerConfig = image_config(backbone=family)
    plain = tiny_clip(image=image)
    expected = _trained(_Step(plain), plain)
    model = tiny_clip(image=image)
    step: nn.Module = _Step(model)
    if wrapper == "ddp":
        step = DistributedDataParallel(step)
    else:
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        fully_shard(model.text_trunk, mesh=mesh)
        fully_shard(step, mesh=mesh)
    assert _trained(step, model) == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < expected[0]
