"""Starting from a dense CLIP: its embedding comes back, from every layout that it is stored in."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.open_clip_code import open_clip_folder
from sparse_encoder.errors import SparsightError
from sparse_encoder.towers import SparseClip, SparseClipConfig, Tokens, export, load, start_from
from sparse_encoder.towers.open_clip_layout import OpenClipShape, clip_from_open_clip
from sparse_encoder.towers.tokenizer import byte_tokenizer
from tests.sparse_encoder.towers.tiny_towers import SHAPE as TOWER
from tests.sparse_encoder.towers.tiny_towers import (
    TEXTS,
    image_config,
    pixels,
    save_backbone,
    save_dense_clip,
    seeded,
    text_config,
)

CONFIG = SparseClipConfig(image=image_config(), text=text_config(), features=100)
SHAPE = OpenClipShape(image_heads=2, text_heads=2)
N_TOKENS = len(byte_tokenizer())


def _dense(model: SparseClip, start: str) -> tuple[Tensor, Tensor]:
    """The first 16 pre_codes of images and texts: with dense rows, the dense embedding."""
    tokens = model.text_trunk.tokenize(TEXTS)
    image = model.image_head.pre_code(model.image_trunk_output(pixels(3)))
    text = model.text_head.pre_code(model.text_trunk_output(tokens))
    return image[:, :16], text[:, :16]


# Hugging Face


@pytest.mark.parametrize("projection", [16, 0])
@torch.no_grad()
def test_dense_rows_give_the_embedding_of_a_hugging_face_clip(
    projection: int, tmp_path: Path
) -> None:
    clip = save_dense_clip(tmp_path)
    config = replace(
        CONFIG,
        text=text_config(tokenizer="", backbone="clip-of-the-source", projection=projection),
        image=image_config(projection=projection),
        bias=-1.0,
    )
    model = start_from(tmp_path, config, dense_rows=True)
    tokens = model.text_trunk.tokenize(TEXTS)
    image, text = _dense(model, "hf")
    expected = clip.get_image_features(pixels(3)).pooler_output
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-5)
    expected = clip.get_text_features(tokens.ids, tokens.mask).pooler_output
    torch.testing.assert_close(text, expected, atol=1e-5, rtol=1e-5)
    assert (model.image_head.bias[:16] == 0).all() and (model.image_head.bias[16:] == -1).all()
    assert model.scale.item() == pytest.approx(clip.logit_scale.exp().item())


@torch.no_grad()
def test_without_dense_rows_the_trunk_is_the_sources_and_the_head_is_new(tmp_path: Path) -> None:
    clip = save_dense_clip(tmp_path)
    model = start_from(tmp_path, CONFIG)
    expected = clip.get_image_features(pixels(3)).pooler_output
    torch.testing.assert_close(model.image_trunk_output(pixels(3)), expected, atol=1e-5, rtol=1e-5)
    image, _ = _dense(model, "hf")
    assert not torch.allclose(image, expected, atol=0.1)


def test_the_towers_shape_is_the_sources_and_the_rest_is_the_configs(tmp_path: Path) -> None:
    save_dense_clip(tmp_path, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    wanted = replace(CONFIG, image=image_config(frozen=True, pool="mean", layers=7), cap=10.0)
    model = start_from(tmp_path, wanted)
    image, text = model.config.image, model.config.text
    assert (image.layers, image.heads, image.mlp_ratio, image.size) == (2, 2, 2.0, 32)
    assert (image.frozen, image.pool) == (True, "mean")
    assert image.mean == (0.1, 0.2, 0.3)
    assert (text.max_tokens, text.tokenizer) == (24, "bytes")
    assert model.scale.item() == pytest.approx(10, rel=1e-5)  # the cap goes before the source's


def test_a_started_model_saves_and_loads(tmp_path: Path) -> None:
    save_dense_clip(tmp_path / "dense")
    model = start_from(tmp_path / "dense", CONFIG, dense_rows=True).eval()
    export(model, tmp_path / "sparse")
    again = load(tmp_path / "sparse")
    assert torch.equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert torch.equal(again(pixels(3)).image, model(pixels(3)).image)


def test_a_siglip_loss_keeps_its_own_scale(tmp_path: Path) -> None:
    save_dense_clip(tmp_path)
    assert start_from(tmp_path, replace(CONFIG, loss="siglip")).scale.item() == pytest.approx(10)


# OpenCLIP, by its documented layout


class _Block(nn.Module):
    """open_clip's ResidualAttentionBlock, by its names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 2 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class _Stack(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class _Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(32))
        self.positional_embedding = nn.Parameter(torch.randn(17, 32))
        self.ln_pre, self.ln_post = nn.LayerNorm(32), nn.LayerNorm(32)
        self.transformer = _Stack(32, 2)
        self.proj = nn.Parameter(torch.randn(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x)[:, 0] @ self.proj


class _OpenClip(nn.Module):
    """A plain CLIP with open_clip's names and arithmetic: the twin of what is converted."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = _Visual()
        self.transformer = _Stack(32, 2)
        self.token_embedding = nn.Embedding(N_TOKENS, 32)
        self.positional_embedding = nn.Parameter(torch.randn(24, 32))
        self.ln_final = nn.LayerNorm(32)
        self.text_projection = nn.Parameter(torch.randn(32, 16))
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def encode_image(self, x: Tensor) -> Tensor:
        return self.visual(x)

    def encode_text(self, ids: Tensor) -> Tensor:
        mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        x = self.ln_final(self.transformer(x, mask))
        return x[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def _noisy(model: nn.Module) -> nn.Module:
    """Norms and biases are 1 and 0 at first, which would hide a mix-up."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def _twin() -> Any:
    return seeded(lambda: _noisy(_OpenClip()))


def _same_embedding(model: SparseClip, source: Any) -> None:
    with torch.no_grad():
        tokens = model.text_trunk.tokenize(TEXTS)
        image, text = _dense(model, "open_clip")
        torch.testing.assert_close(image, source.encode_image(pixels(3)), atol=1e-4, rtol=1e-4)
        # open_clip pads with 0 to its full length and finds the end mark as the largest id.
        ids = nn.functional.pad(tokens.ids, (0, 24 - tokens.ids.shape[1]))
        torch.testing.assert_close(text, source.encode_text(ids), atol=1e-4, rtol=1e-4)


def _bare(state: dict[str, Tensor]) -> Any:
    return state


def _training(state: dict[str, Tensor]) -> Any:
    """What open_clip_train saves, of a model under DDP."""
    renamed = {f"module.{key}": value for key, value in state.items()}
    return {"epoch": 3, "name": "run", "state_dict": renamed, "optimizer": {"state": {}}}


def _custom_text(state: dict[str, Tensor]) -> Any:
    """The class CustomTextCLIP: the text tower under ``text.``."""
    root = ("visual.", "logit_")
    return {k if k.startswith(root) else f"text.{k}": v for k, v in state.items()}


def _half(state: dict[str, Tensor]) -> Any:
    return {key: value.half().float() for key, value in state.items()}


@pytest.mark.parametrize("layout", [_bare, _training, _custom_text])
def test_an_open_clip_file_gives_its_models_embedding(
    layout: Callable[[dict[str, Tensor]], Any], tmp_path: Path
) -> None:
    source = _twin()
    torch.save(layout(source.state_dict()), tmp_path / "epoch_3.pt")
    model = start_from(tmp_path / "epoch_3.pt", CONFIG, dense_rows=True, shape=SHAPE)
    _same_embedding(model, source)
    assert model.log_scale.item() == pytest.approx(source.logit_scale.item())


def test_an_open_clip_file_in_safetensors_and_half_precision_gives_fp32_weights(
    tmp_path: Path,
) -> None:
    source = _twin()
    state = {key: value.half().contiguous() for key, value in source.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    source.load_state_dict(_half(source.state_dict()))
    model = start_from(tmp_path / "model.safetensors", CONFIG, dense_rows=True, shape=SHAPE)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    _same_embedding(model, source)


@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_an_open_clip_folder_gives_its_models_embedding(weights: str, tmp_path: Path) -> None:
    source = _twin()
    if weights.endswith(".bin"):
        torch.save(source.state_dict(), tmp_path / weights)
    else:
        save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / weights)
    _write_open_clip_config(tmp_path)
    model = start_from(tmp_path, CONFIG, dense_rows=True)
    assert (model.config.image.heads, model.config.text.heads) == (2, 2)
    _same_embedding(model, source)


def _write_open_clip_config(folder: Path, quick_gelu: bool = False, **text: Any) -> None:
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    words = {"context_length": 24, "vocab_size": N_TOKENS, "width": 32, "heads": 2, "layers": 2}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": words | text}
    if quick_gelu:
        model["quick_gelu"] = True
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))


@pytest.mark.parametrize("quick", [False, True])
def test_real_open_clip_and_the_started_model_embed_alike(
    quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_clip = _open_clip_model(monkeypatch)
    vision = open_clip.CLIPVisionCfg(
        image_size=32, layers=2, width=32, head_width=16, patch_size=8, mlp_ratio=2.0
    )
    words = open_clip.CLIPTextCfg(
        context_length=24, vocab_size=N_TOKENS, width=32, heads=2, layers=2, mlp_ratio=3.0
    )
    source = seeded(lambda: _noisy(open_clip.CLIP(16, vision, words, quick_gelu=quick)))
    shape = replace(SHAPE, quick_gelu=quick)
    clip = clip_from_open_clip(source.state_dict(), shape)
    tokens = _tokens()
    with torch.no_grad():
        ours = clip.get_image_features(pixels(3)).pooler_output
        torch.testing.assert_close(ours, source.encode_image(pixels(3)), atol=1e-4, rtol=1e-4)
        ours = clip.get_text_features(tokens.ids, tokens.mask).pooler_output
        ids = nn.functional.pad(tokens.ids, (0, 24 - tokens.ids.shape[1]))
        torch.testing.assert_close(ours, source.encode_text(ids), atol=1e-4, rtol=1e-4)


def _tokens() -> Tokens:
    batch = byte_tokenizer()(TEXTS, padding=True, truncation=True, max_length=24)
    return Tokens(torch.tensor(batch["input_ids"]), torch.tensor(batch["attention_mask"]))


def _open_clip_model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """open_clip/model.py without its package, which asks for torchvision only to freeze ResNets."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    bare = ModuleType("open_clip")
    bare.__path__ = [str(open_clip_folder())]
    monkeypatch.setitem(sys.modules, "open_clip", bare)
    if find_spec("torchvision") is None:
        misc = SimpleNamespace(FrozenBatchNorm2d=nn.BatchNorm2d)
        for name in ("torchvision", "torchvision.ops"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, "torchvision.ops.misc", misc)
    parts = ("model", "hf_model", "hf_configs", "modified_resnet", "timm_model", "transformer")
    for part in (*parts, "utils", "pos_embed"):  # noted as absent, so that they leave with the test
        monkeypatch.setitem(sys.modules, f"open_clip.{part}", None)
        monkeypatch.delitem(sys.modules, f"open_clip.{part}")
    return importlib.import_module("open_clip.model")


# Refusals


def _without(key: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s | {"visual.attn_pool.query": torch.zeros(1)}, "'visual.attn_pool.query'"),
        (lambda s: s | {"visual.trunk.norm.weight": torch.zeros(1)}, "timm"),
        (lambda s: {"visual.layer1.0.conv1.weight": torch.zeros(1)}, "ResNet"),
        (lambda s: s | {"transformer.resblocks.0.ls_1.gamma": torch.zeros(32)}, "ls_1.gamma"),
        (_without("ln_final.bias"), "lacks"),
        (_without("visual.transformer.resblocks.1.mlp.c_fc.bias"), "lacks"),
        (lambda s: {}, "no OpenCLIP checkpoint"),
        (lambda s: {"state_dict": {"a": 3}}, "no state dict of tensors"),
        (lambda s: [1, 2], "no state dict of tensors"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_by_name(
    change: Callable[[dict[str, Tensor]], Any], word: str, tmp_path: Path
) -> None:
    torch.save(change(_twin().state_dict()), tmp_path / "model.pt")
    with pytest.raises(SparsightError, match=word) as caught:
        start_from(tmp_path / "model.pt", CONFIG, shape=SHAPE)
    assert caught.value.param == "source"


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x80\x02K\x01."])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SparsightError, match="expected"):
        start_from(tmp_path / name, CONFIG)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "model.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(SparsightError, match="cannot be read"):
        start_from(tmp_path / "model.pt", CONFIG)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ({"no_causal_mask": True}, "no_causal_mask"),
        ({"pool_type": "last"}, "pool_type"),
        ({"embed_cls": True}, "embed_cls"),
    ],
)
def test_an_open_clip_text_tower_of_another_kind_is_refused(
    text: dict[str, Any], word: str, tmp_path: Path
) -> None:
    torch.save(_twin().state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    _write_open_clip_config(tmp_path, **text)
    with pytest.raises(SparsightError, match=word):
        start_from(tmp_path, CONFIG)


def test_an_open_clip_folder_without_weights_is_refused(tmp_path: Path) -> None:
    _write_open_clip_config(tmp_path)
    with pytest.raises(SparsightError, match="copy the weights"):
        start_from(tmp_path, CONFIG)


def test_a_code_narrower_than_the_embedding_has_no_room_for_dense_rows(tmp_path: Path) -> None:
    save_dense_clip(tmp_path)
    with pytest.raises(SparsightError, match="raise features"):
        start_from(tmp_path, replace(CONFIG, features=15), dense_rows=True)


def test_a_name_that_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SparsightError, match="'nobody/none' is no folder with a CLIP") as caught:
        start_from("nobody/none", CONFIG)
    assert caught.value.param == "source"


def test_a_folder_with_one_tower_is_refused(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "vit", **TOWER, image_size=32, patch_size=8)
    with pytest.raises(SparsightError, match="type 'vit', expected a CLIP"):
        start_from(folder, CONFIG)


def test_a_hugging_face_file_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    clip = save_dense_clip(tmp_path)
    state = {k: v for k, v in clip.state_dict().items() if "text_model.final_layer_norm" not in k}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SparsightError, match="lack 2 tensors"):
        start_from(tmp_path, CONFIG)


def test_an_open_clip_file_takes_clips_tokenizer_when_none_is_given(tmp_path: Path) -> None:
    torch.save(_twin().state_dict(), tmp_path / "model.pt")
    config = replace(CONFIG, text=text_config(backbone="source", tokenizer=""))
    with pytest.raises(SparsightError, match="49408 tokens.*embeds 259"):  # a tiny vocabulary
        start_from(tmp_path / "model.pt", config, shape=SHAPE)
