"""The language model: a causal LM of transformers, LoRA merged in when it is used."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import ensure_part
from sparse_encoder.wheel import Progress
from vlm.any_llm import load_any, load_tokenizer, model_shape
from vlm.llm_part import CHAT_TEMPLATE, LLM_PART

TINY = "tiny"  # random weights, the real tokenizer's small twin; for tests


def load_language_model(
    name: str,
    progress: Progress | None = None,
    *,
    attention: str = "sdpa",
    chat_template: str = "",
    home: Path | None = None,
    dtype: torch.dtype = torch.float32,
    with_weights: bool = True,
) -> tuple[Any, Any]:
    """(model, tokenizer) of a language model, in eval mode.

    name: "tiny", the part of `sparsight-mini`, or the hub name or folder of any causal language
    model; "./llm" is a folder below `home`, the model folder. attention: as transformers names it;
    "eager" is a quarter faster for short training rows. chat_template: Jinja text, empty for the
    tokenizer's own. with_weights: otherwise random ones. Raises LanguageModelError.
    """
    if name == TINY:
        return tiny_language_model(attention).to(dtype), tiny_tokenizer()
    source = str(ensure_part(LLM_PART, progress=progress)) if name == LLM_PART.name else name
    if name.startswith("./") and home is not None:
        source = str((home / name).resolve())
    model_shape(source)  # told of before a tokenizer is missed, and before gigabytes are read
    tokenizer = load_tokenizer(source, chat_template)
    return load_any(source, attention, dtype, with_weights), tokenizer


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with the LoRA of `adapter` merged into its weights, float32.

    Raises SparsightError where the adapter's weights are not those of this model's layers: peft passes over keys
    that it does not know, and the model would answer as if it had never been trained.
    """
    with warnings.catch_warnings():
        # Of missing keys, which are refused below.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        tuned = PeftModel.from_pretrained(model, str(adapter))
    with safe_open(adapter / SAFETENSORS_WEIGHTS_NAME, "pt") as file:
        odd = set(file.keys()) ^ set(get_peft_model_state_dict(tuned))
    if odd:
        raise SparsightError(
            f"the adapter {adapter} does not fit its language model: {len(odd)} weights are in one of them "
            f"alone, {min(odd)} first; give the adapter that was trained with this model",
            param="model",
            code="bad_adapter",
        )
    merged: Any = tuned.merge_and_unload()
    return merged.eval().requires_grad_(False)


def embed(model: Any, token_ids: list[int]) -> Tensor:
    """Input vectors (tokens, hidden) of token ids."""
    table = model.get_input_embeddings()
    ids = torch.tensor(token_ids, dtype=torch.int64, device=table.weight.device)
    out: Tensor = table(ids)
    return out


def tiny_language_model(attention: str = "sdpa", vocabulary: int = 264) -> Any:
    """A two-layer random Llama; equal weights at every call."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.3,  # a random model of the usual 0.02 says all words alike
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM._from_config(config, attn_implementation=attention).eval()


def tiny_tokenizer() -> Any:
    """One token a byte, with the real chat marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*marks, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )
