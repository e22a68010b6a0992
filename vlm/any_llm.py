"""Any causal language model of transformers, by hub name or folder, and its chat template."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sparse_encoder.errors import SparsightError
from sparse_encoder.towers.backbone import first_line

IN_MODEL = "llm"  # folder of a model's own language model, as its config.json names it: "./llm"


class LanguageModelError(SparsightError):
    """A language model that cannot be had, or that cannot chat."""

    code = "bad_language_model"


def load_any(name: str, attention: str, dtype: torch.dtype, with_weights: bool = True) -> Any:
    """The model of that hub name or folder, in eval mode.

    with_weights: otherwise random ones in its shape. Raises LanguageModelError.
    """
    shape = model_shape(name)
    try:
        if with_weights:
            model = AutoModelForCausalLM.from_pretrained(
                name, dtype=dtype, attn_implementation=attention
            )
        else:
            model = AutoModelForCausalLM.from_config(
                shape, dtype=dtype, attn_implementation=attention
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise LanguageModelError(
            f"{name} is no causal language model that transformers can load ({first_line(error)}); "
            "give the hub name or the folder of one, such as a Llama, Qwen, Mistral or SmolLM2",
            param="llm",
        ) from error
    return model.eval()


def load_tokenizer(name: str, chat_template: str = "") -> Any:
    """The tokenizer of that hub name or folder.

    chat_template: Jinja text that goes before the tokenizer's own. Raises LanguageModelError where
    there is no tokenizer, or no template.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise LanguageModelError(
            f"{name} has no tokenizer that transformers can load ({first_line(error)}); copy its "
            "tokenizer files beside the weights",
            param="llm",
        ) from error
    if chat_template:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise LanguageModelError(
            f"the tokenizer of {name} has no chat template, so it is not said how a question and "
            "its answer are laid out; take an instruction-tuned model, or give a Jinja file with "
            "--set chat_template=FILE",
            param="chat_template",
        )
    return tokenizer


def read_template(path: str) -> str:
    """The Jinja text of a file; empty for an empty path. Raises LanguageModelError."""
    if not path:
        return ""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LanguageModelError(
            f"the chat template {path} cannot be read ({error})", param="chat_template"
        ) from error
    if not text.strip():
        raise LanguageModelError(f"the chat template {path} is empty", param="chat_template")
    return text


def model_shape(name: str) -> Any:
    """The config of that model; raises LanguageModelError where there is none."""
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise LanguageModelError(
            f"there is no language model {name!r} ({first_line(error)}); expected a hub name that "
            "can be reached or is cached, or a folder with config.json",
            param="llm",
        ) from error
