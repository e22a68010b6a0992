"""The local hard-negative loss on a whole model: what it reads, what it trains, that it learns."""

import pytest
import torch

from sparse_encoder.hard_negatives import local_hard_negative_loss, negative_batch
from sparse_encoder.towers import Tokens
from sparse_encoder.towers.local_loss import local_loss, tokenize_negatives
from tests.sparse_encoder.towers.tiny_towers import SHAPE as LAYERS
from tests.sparse_encoder.towers.tiny_towers import pixels, save_backbone, text_config, tiny_clip

CAPTIONS = ["a red dog chases a cat", "two men ride a boat", "dog"]


def test_negatives_are_tokens_of_the_changed_captions_and_empty_where_there_are_none() -> None:
    trunk = tiny_clip().text_trunk
    negatives = tokenize_negatives(trunk, CAPTIONS, seed=3)
    assert negatives.ids.shape == negatives.mask.shape and negatives.ids.shape[:2] == (3, 2)
    for row, texts in enumerate(negative_batch(CAPTIONS, 3)):
        for i in range(2):
            real = negatives.ids[row, i][negatives.mask[row, i].bool()]
            text = trunk.tokenizer.decode(real, skip_special_tokens=True)
            assert text == (texts[i] if i < len(texts) else "")


def test_the_loss_is_that_of_the_models_states() -> None:
    clip = tiny_clip()
    tokens = clip.text_trunk.tokenize(CAPTIONS)
    negatives = tokenize_negatives(clip.text_trunk, CAPTIONS, seed=0)
    with torch.no_grad():
        ours = local_loss(clip, pixels(3), tokens, negatives)
        other = torch.stack(
            [clip.text_states(Tokens(negatives.ids[i], negatives.mask[i])).tokens for i in range(3)]
        )
        expected = local_hard_negative_loss(
            clip.image_states(pixels(3)).patches,
            clip.text_states(tokens).tokens,
            clip.text_trunk.word_mask(tokens),
            other,
            clip.text_trunk.word_mask(negatives),
            clip.scale,
        )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("kind", ["clip", "bert"])
def test_a_few_steps_tell_captions_from_their_negatives(kind: str, tmp_path) -> None:
    text = text_config()
    if kind == "bert":  # an encoder that hides padding, and so must not be given an empty text
        shape = LAYERS | {"vocab_size": 300, "max_position_embeddings": 40}
        folder = save_backbone(tmp_path, "bert", **shape)
        text = text_config(backbone=folder, tokenizer="", pool="mean")
    clip = tiny_clip(text=text).train()
    tokens = clip.text_trunk.tokenize(CAPTIONS)
    negatives = tokenize_negatives(clip.text_trunk, CAPTIONS, seed=0)
    optimiser = torch.optim.AdamW(clip.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = local_loss(clip, pixels(3), tokens, negatives)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    touched = {n.split(".")[0] for n, p in clip.named_parameters() if p.grad is not None}
    assert {"image_trunk", "text_trunk", "image_projection", "text_projection"} <= touched
    assert "image_head" not in touched and "text_head" not in touched


def test_a_batch_without_any_negative_costs_nothing_and_stays_finite() -> None:
    clip = tiny_clip()
    captions = ["dog", "cat"]
    negatives = tokenize_negatives(clip.text_trunk, captions, seed=0)
    assert not negatives.mask.any()
    loss = local_loss(clip, pixels(2), clip.text_trunk.tokenize(captions), negatives)
    loss.backward()
    assert loss.item() == 0
    grads = [p.grad for p in clip.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(g).all() for g in grads)
