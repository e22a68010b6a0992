"""Any causal language model: tiny random ones of four families, their templates and ends of turn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo
from vlm.language_model import load_language_model, tiny_tokenizer
from vlm.packing import IGNORED, SOFT, Branch, Row, pack
from vlm.pipeline import Pipeline, caption_request
from vlm.projector import Projector, ProjectorConfig
from vlm.template import ImagePart, Message, TextPart, chat_pieces, end_of_turn
from vlm.tuning.captioner import TunedCaptioner
from vlm.tuning.config import LoraShape
from vlm.tuning.rows import RowLayout
from vlm.tuning.run import tune

SHAPE: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As each family writes a chat, with the marks that the tiny tokenizer has.
TEMPLATES = {
    "llama": (
        "{{ bos_token }}{% for m in messages %}<|endoftext|>{{ m['role'] }}<|endoftext|>\n\n"
        "{{ m['content'] | trim }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|endoftext|>assistant<|endoftext|>\n\n{% endif %}"
    ),
    "qwen2": CHATML,
    # Thoughts of the last answer stay, those of earlier ones go, so beginnings differ.
    "qwen3": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "[INST] {{ m['content'] }} [/INST]{% elif m['role'] == 'assistant' %} {{ m['content'] }}"
        "{{ eos_token }}{% else %}{{ raise_exception('only user and assistant roles') }}"
        "{% endif %}{% endfor %}"
    ),
    "smollm2": CHATML,
}
CONFIGS: dict[str, type[PretrainedConfig]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "smollm2": LlamaConfig,
}


def write_llm(folder: Path, family: str, weights: bool = True) -> str:
    """A two-layer random model of a family with its kind of template."""
    extra = {"head_dim": 8} if family == "qwen3" else {}
    extra |= {"tie_word_embeddings": True} if family == "smollm2" else {}
    config = CONFIGS[family](**SHAPE, **extra)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATES[family]
    tokenizer.save_pretrained(folder)
    if not weights:
        config.save_pretrained(folder)
        return str(folder)
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", TEMPLATES)
def test_captions_that_share_a_prefix_have_the_losses_that_they_have_alone(
    family: str, tmp_path: Path
) -> None:
    llm, _ = load_language_model(write_llm(tmp_path, family))
    captioner = TunedCaptioner(llm, Projector(ProjectorConfig(64, 32, (3, 3))), LoraShape(rank=2))
    torch.manual_seed(0)
    codes = Codes.from_dense(torch.rand(10, 64), (3, 3))
    soft = captioner.projector(codes)
    branches = (Branch((30,), (40, 41, 2)), Branch((30,), (50, 2)), Branch((30, 31), (60, 61, 62)))

    def loss(*answers: Branch) -> torch.Tensor:
        row = Row(codes, (3, 4), (20, 21, 22), answers)
        return captioner.loss_of(soft[0], pack([row], [soft.shape[1]]))

    alone = torch.stack([loss(branch) for branch in branches]).sum()
    torch.testing.assert_close(loss(*branches), alone, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_model_of_each_family_is_tuned_and_captions(
    family: str, encoder: Path, captions: list[str], talks: Path, words: str, tmp_path: Path
) -> None:
    settings = {
        "llm": write_llm(tmp_path / "llm", family),
        "words": words,
        "stage1.samples": 8,
        "stage2.samples": 32,
        "stage2.lr_lora": 0.02,
        "stage2.lr_projector": 0.02,
    }
    out = tmp_path / "model"
    losses = tune("tiny-8x", out, settings, urls=captions, conversations=[talks], encoder=encoder)
    assert losses[-1] < losses[0]
    pipeline = Pipeline.load(out)
    answer = pipeline.answer([caption_request(photo(1))])[0]
    assert answer.finish_reason in ("stop", "length")
    moved = [p for name, p in pipeline.model.named_parameters() if "q_proj.weight" in name]
    plain, _ = load_language_model(settings["llm"])  # type: ignore[arg-type]
    still = [p for name, p in plain.named_parameters() if "q_proj.weight" in name]
    assert not torch.equal(moved[0], still[0])


def test_random_weights_are_kept_with_the_model(
    encoder: Path, captions: list[str], words: str, tmp_path: Path
) -> None:
    settings = {
        "llm": write_llm(tmp_path / "llm", "qwen2", weights=False),
        "llm_weights": False,
        "words": words,
        "stage1.samples": 8,
        "stage2.samples": 8,
    }
    tune("tiny-8x", tmp_path / "model", settings, urls=captions, encoder=encoder)
    one, two = (Pipeline.load(tmp_path / "model") for _ in range(2))
    answers = [p.answer([caption_request(photo(1))])[0].text for p in (one, two)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_row_reads_as_the_request_that_it_answers(family: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATES[family]
    layout = RowLayout(tokenizer, 3, 400)
    image: Any = None
    chat = [
        Message("user", (ImagePart(image), TextPart("What?"))),
        Message("assistant", (TextPart("A dog."),)),
        Message("user", (TextPart("Where?"),)),
        Message("assistant", (TextPart("Here."),)),
    ]
    rows = layout.conversation(chat)
    said = tokenizer("Here.", add_special_tokens=False)["input_ids"] + [end_of_turn(tokenizer)]
    asked = [[t for t in row.targets if t != IGNORED] for row in rows]
    first = tokenizer("A dog.", add_special_tokens=False)["input_ids"] + [end_of_turn(tokenizer)]
    assert sum(asked, []) == [*first, *said]
    # The last answer's prompt is what the pipeline makes of the chat so far.
    before, after = chat_pieces(chat[:3], tokenizer)
    tokens = rows[-1].tokens
    expected = [*before, *[SOFT] * 3, *after]
    at = len(tokens) - len(said)
    assert tokens[at:] == said
    if family == "mistral":  # its blank before an earlier answer is not trained on
        expected = [t for t in expected]
        blank = tokenizer(" ", add_special_tokens=False)["input_ids"]
        assert len(expected) - at == len(blank)
    else:
        assert tokens[:at] == expected
    alone = layout.conversation(chat[:2])
    before, after = chat_pieces(chat[:1], tokenizer)
    prompt = [*before, *[SOFT] * 3, *after]
    assert alone[0].tokens == [*prompt, *first]
    assert [t for t in alone[0].targets if t != IGNORED] == first
    assert alone[0].targets[len(prompt) - 1] == first[0]


def test_captions_of_one_image_ask_for_each_caption_once() -> None:
    tokenizer = tiny_tokenizer()
    layout = RowLayout(tokenizer, 3, 400)
    row = layout.captions("Describe.", ["A dog.", "A cat."])
    assert row is not None and row.tokens.count(SOFT) == 3
    for number, caption in ((1, "A dog."), (2, "A cat.")):
        asked = [
            t for t, b in zip(row.targets, row.branch, strict=True) if b == number and t != IGNORED
        ]
        assert tokenizer.decode(asked[:-1]) == caption and asked[-1] == end_of_turn(tokenizer)


def test_a_row_that_is_too_long_is_cut_but_never_inside_of_an_image() -> None:
    layout = RowLayout(tiny_tokenizer(), 30, 80)
    image: Any = None
    long = Message("assistant", (TextPart("word " * 50),))
    rows = layout.conversation([Message("user", (ImagePart(image),)), long])
    assert len(rows[0].tokens) == 80
    assert layout.conversation([Message("user", (ImagePart(image),) * 4), long]) == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"llm": "no/such-model"}, "no language model 'no/such-model'"),
        ({"lora.targets": ["q_prj"]}, "no linear layer .* q_prj; it has q_proj, k_proj"),
        ({"lora.targets": ["q_proj", "nothing"]}, "is named nothing; it has q_proj"),
        ({"chat_template": "none.jinja"}, "none.jinja cannot be read"),
        ({"groups": [3, 3]}, "4 x 4 cells"),
        ({"lora.rank": 0}, "1 or more"),
        ({"lora.dropout": 1.0}, "share"),
        ({"precision": "fp8"}, "bf16, fp16 or fp32"),
        ({"tracker": "no-such"}, "accelerate refuses"),
        ({"stage1.conversations": 2.0}, "share"),
        ({"stage2.batch": 0}, "batch of 1 or more"),
        ({"edits.dropout": 1.5}, "edits.dropout=1.5 is a share"),
        ({"words": "none.txt"}, "cannot read the word list"),
        ({"stage1.samples": 0, "stage2.samples": 0}, "no step"),
        ({"stage1.samples": 0, "stage1.epochs": 1.0}, "set stage1.samples"),
        ({"lora.rnak": 3}, "no setting"),
        ({"warmup": 1.5}, "share"),
    ],
)
def test_bad_settings_are_refused_in_words(
    encoder: Path,
    captions: list[str],
    words: str,
    tmp_path: Path,
    settings: dict[str, object],
    word: str,
) -> None:
    with pytest.raises(SparsightError, match=word):
        tune("tiny-8x", tmp_path, {"words": words, **settings}, urls=captions, encoder=encoder)


def test_a_model_without_a_chat_template_is_refused_with_what_to_do(
    encoder: Path, captions: list[str], words: str, tmp_path: Path
) -> None:
    llm = write_llm(tmp_path / "llm", "llama")
    (tmp_path / "llm" / "chat_template.jinja").unlink()
    settings = {"llm": llm, "words": words, "stage1.samples": 8, "stage2.samples": 8}
    out = tmp_path / "model"
    with pytest.raises(SparsightError, match="--set chat_template=FILE"):
        tune("tiny-8x", out, settings, urls=captions, encoder=encoder)
    template = tmp_path / "own.jinja"
    template.write_text(CHATML)
    settings["chat_template"] = str(template)
    tune("tiny-8x", out, settings, urls=captions, encoder=encoder)
    assert Pipeline.load(out).tokenizer.chat_template == CHATML


def test_no_data_is_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(SparsightError, match="no data to train on"):
        tune("tiny-8x", tmp_path, {}, encoder=encoder)
