"""Text trunks and tokenizers: what is pooled, what is cut, and what is refused."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.open_clip_code import open_clip_module
from sparse_encoder.errors import SparsightError
from sparse_encoder.mini_parts import TEXT_TRUNK_PART
from sparse_encoder.parts import ensure_part
from sparse_encoder.text_trunk import SentenceTrunk
from sparse_encoder.towers.text import TextTrunk, Tokens, build_text_trunk
from sparse_encoder.towers.tokenizer import (
    byte_tokenizer,
    clip_tokenizer,
    load_tokenizer,
    train_tokenizer,
)
from tests.sparse_encoder.towers.tiny_towers import (
    SHAPE,
    TEXTS,
    dense_clip,
    save_backbone,
    save_dense_clip,
    seeded,
    text_config,
)

CAPTIONS = ["A dog runs on the beach.", "Two cats sleep on a red sofa!", "naïve café 東京"] * 20
WORDS = {"vocab_size": 300, "max_position_embeddings": 40}
BACKBONES = {
    "bert": SHAPE | WORDS,
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2} | WORDS,
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    | {"vocab_size": 300},
    "llama": SHAPE | WORDS,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40, "vocab_size": 300},
    "qwen2": SHAPE | WORDS | {"num_key_value_heads": 1},
}


def _trunk(**changes: object) -> TextTrunk:
    trunk: TextTrunk = seeded(lambda: build_text_trunk(text_config(**changes)))
    return trunk


@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("kind", ["clip", *BACKBONES])
def test_any_text_backbone_gives_pooled_vectors_and_trains_every_parameter(
    kind: str, pool: str, tmp_path: Path
) -> None:
    if kind == "clip":
        trunk = _trunk(pool=pool)
    else:
        folder = save_backbone(tmp_path, kind, **BACKBONES[kind])
        trunk = _trunk(backbone=folder, tokenizer="", pool=pool)
    tokens = trunk.tokenize(TEXTS)
    states = trunk.train()(tokens)
    assert states.pooled.shape == (3, 32) and states.tokens.shape == (3, tokens.ids.shape[1], 32)
    states.pooled.square().sum().backward()
    without = [n for n, p in trunk.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # DDP refuses such parameters


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_pooling_equals_a_loop_over_real_tokens(lengths: list[int], seed: int) -> None:
    from sparse_encoder.towers.text import _last, _mean

    states = torch.randn(len(lengths), 9, 4, generator=torch.Generator().manual_seed(seed))
    for left in (False, True):
        mask = torch.zeros(len(lengths), 9, dtype=torch.long)
        for row, n in zip(mask, lengths, strict=True):
            row[9 - n :] = 1 if left else row[9 - n :]
            row[:n] = row[:n] if left else 1
        real = [s[m.bool()] for s, m in zip(states, mask, strict=True)]
        assert torch.equal(_last(states, mask), torch.stack([r[-1] for r in real]))
        mean = torch.stack([r.mean(0) for r in real])
        torch.testing.assert_close(_mean(states, mask), mean)


@pytest.mark.parametrize("kind", ["clip", "bert", "llama", "gpt2", "t5"])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_a_texts_vector_does_not_depend_on_its_batch(kind: str, pool: str, tmp_path: Path) -> None:
    if kind == "clip":
        trunk = _trunk(pool=pool)
    else:
        folder = save_backbone(tmp_path, kind, **BACKBONES[kind])
        trunk = _trunk(backbone=folder, tokenizer="", pool=pool)
    trunk.eval()
    with torch.no_grad():
        together = trunk(trunk.tokenize(TEXTS)).pooled
        alone = torch.cat([trunk(trunk.tokenize([text])).pooled for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_language_models_tokenizer_that_pads_left_is_made_to_pad_right(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "gpt2", **BACKBONES["gpt2"])
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    assert load_tokenizer(folder).padding_side == "left"
    mask = _trunk(backbone=folder, tokenizer="").tokenize(TEXTS).mask
    assert (mask.diff(dim=1) <= 0).all()  # ones, then zeros


def test_clips_last_real_token_is_what_transformers_pools(tmp_path: Path) -> None:
    clip = save_dense_clip(tmp_path)
    trunk = _trunk(backbone=str(tmp_path), tokenizer="", max_tokens=24).eval()
    tokens = trunk.tokenize(TEXTS)
    with torch.no_grad():
        expected = clip.text_model(input_ids=tokens.ids, attention_mask=tokens.mask)
        assert torch.equal(trunk(tokens).pooled, expected.pooler_output)


def test_long_texts_are_cut_and_keep_their_end_mark() -> None:
    trunk = _trunk(max_tokens=8)
    tokens = trunk.tokenize(["a very long text about nothing", "a"])
    assert tokens.ids.shape == (2, 8)
    assert int(tokens.ids[0, -1]) == trunk.tokenizer.eos_token_id


def test_the_word_mask_leaves_out_padding_and_the_start_mark() -> None:
    trunk = _trunk()
    mask = trunk.word_mask(trunk.tokenize(["ab", "abcd"]))
    assert mask.tolist() == [[False, True, True, True, False, False], [False] + [True] * 5]


@pytest.mark.model
def test_the_mini_text_trunk_equals_the_sentence_trunk() -> None:
    trunk = build_text_trunk(
        text_config(backbone="all-minilm-l6-v2", tokenizer="", pool="mean", max_tokens=64)
    ).eval()
    with torch.no_grad():
        ours = trunk(trunk.tokenize(TEXTS)).pooled
    theirs = SentenceTrunk(ensure_part(TEXT_TRUNK_PART))(TEXTS)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_model_without_start_or_end_marks_refuses_an_empty_text(tmp_path: Path) -> None:
    trunk = _trunk(backbone=save_backbone(tmp_path, "gpt2", **BACKBONES["gpt2"]), tokenizer="")
    trunk.tokenizer.backend_tokenizer.post_processor = _no_marks()
    with pytest.raises(SparsightError, match="text 1 of 2 has no token"):
        trunk.tokenize(["a", ""])


def _no_marks() -> object:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="$A", special_tokens=[])


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"max_tokens": 41}, "has 40 positions"), ({"tokenizer": "LONG"}, "embeds 300")],
)
def test_a_backbone_that_would_index_out_of_bounds_is_refused(
    changes: dict[str, object], word: str, tmp_path: Path
) -> None:
    folder = save_backbone(tmp_path / "model", "bert", **BACKBONES["bert"])
    if changes.get("tokenizer") == "LONG":
        train_tokenizer(CAPTIONS, 600).save_pretrained(tmp_path / "tok")
        changes = {"tokenizer": str(tmp_path / "tok")}
    with pytest.raises(SparsightError, match=word):
        build_text_trunk(text_config(backbone=folder, **({"tokenizer": ""} | changes)))


def test_an_image_model_is_refused_as_a_text_trunk(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "vit", **SHAPE, image_size=32, patch_size=8)
    with pytest.raises(SparsightError, match="ViTModel reads pixel_values"):
        build_text_trunk(text_config(backbone=folder))


def test_a_bf16_trunk_is_near_the_fp32_one() -> None:
    trunk = _trunk().eval()
    tokens = trunk.tokenize(TEXTS)
    with torch.no_grad():
        full, half = trunk(tokens).pooled, trunk.bfloat16()(tokens).pooled
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0.1)


def test_a_frozen_text_trunk_stays_in_eval_mode_and_gives_no_gradient() -> None:
    trunk = _trunk(frozen=True).train()
    assert not trunk.model.training
    assert not trunk(trunk.tokenize(TEXTS)).pooled.requires_grad


# Tokenizers


@pytest.mark.parametrize("make", [byte_tokenizer, lambda: train_tokenizer(CAPTIONS, 600)])
def test_a_tokenizer_gives_the_same_ids_after_saving(make, tmp_path: Path) -> None:
    tokenizer = make()
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    for text in [*CAPTIONS, "", "unseen words: żółw 🙂"]:
        ids = tokenizer(text)["input_ids"]
        assert again(text)["input_ids"] == ids
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert len(again) == len(tokenizer)


@given(text=st.text(max_size=30))
def test_the_byte_tokenizer_loses_nothing(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode()) + 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_trained_tokenizer_keeps_frequent_words_whole_within_its_size() -> None:
    tokenizer = train_tokenizer(CAPTIONS, 700)
    assert len(tokenizer) <= 700
    assert len(tokenizer("beach sofa cats")["input_ids"]) == 3 + 2
    assert len(set(tokenizer.get_vocab().values())) == len(tokenizer)


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(SparsightError, match="more than 514"):
        train_tokenizer(CAPTIONS, 514)


def test_clips_tokenizer_gives_the_ids_of_openai() -> None:
    # From the README of openai/CLIP's successor in transformers: "a photo of a cat".
    ids = clip_tokenizer()("a photo of a cat")["input_ids"]
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_clips_tokenizer_equals_open_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = clip_tokenizer()
    theirs = _open_clip_tokenizer(monkeypatch).SimpleTokenizer()
    for text in [*CAPTIONS, "it's 12 o'clock, isn't it?", "UPPER  spaced\ttext", "żółw 🙂 #42-b"]:
        expected = theirs.encode(text)
        assert ours(text)["input_ids"] == [49406, *expected, 49407]
    assert len(ours) == 49_408 == theirs.vocab_size


def _open_clip_tokenizer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """ftfy, which mends broken text, is not needed for ours."""
    if find_spec("ftfy") is None:
        monkeypatch.setitem(sys.modules, "ftfy", SimpleNamespace(fix_text=lambda text: text))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # the file sets it on import
    return open_clip_module("tokenizer")


@pytest.mark.parametrize("what", ["tokenizer", "backbone", "shape"])
def test_a_name_that_cannot_be_had_says_so_and_what_to_do(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    changes = {
        "tokenizer": {"tokenizer": "nobody/none"},
        "backbone": {"backbone": "nobody/none", "tokenizer": "bytes"},
        "shape": {"backbone": "nobody/none", "tokenizer": "bytes", "pretrained": False},
    }
    with pytest.raises(SparsightError, match="'nobody/none'.*hub did not give it") as caught:
        build_text_trunk(text_config(**changes[what]))
    expected = "text.tokenizer" if what == "tokenizer" else "text.backbone"
    assert caught.value.param == expected


def test_of_a_whole_clip_the_text_tower_is_taken(tmp_path: Path) -> None:
    save_dense_clip(tmp_path)
    trunk = _trunk(backbone=str(tmp_path), tokenizer="", max_tokens=24)
    weights = dense_clip().text_model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in trunk.model.state_dict().items())


def test_tokens_are_a_pair_of_tensors_that_loaders_can_move() -> None:
    tokens = _trunk().tokenize(TEXTS)
    assert isinstance(tokens, Tokens) and tokens.ids.dtype == tokens.mask.dtype == torch.int64
