"""Answers that are JSON of a given schema: at each place only what can still become such is said.

llguidance (MIT, https://github.com/guidance-ai/llguidance) turns schema and vocabulary into masks;
vLLM uses it, too. The JSON is written the way models have read most of it, with one space after a
comma or colon and none elsewhere, since a small model otherwise pads without end.
"""

import json
import re
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError

ANY_OBJECT = '{"type": "object"}'  # the schema of OpenAI's json_object
PARAM = "response_format"
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Guides:
    """Makes the guides of one model."""

    def __init__(self, tokenizer: Any, n_vocabulary: int, end: int) -> None:
        """n_vocabulary: length of the logits; end: the token that ends an answer."""
        self._tokenizer = tokenizer
        self._n_vocabulary = n_vocabulary
        self._end = end
        self._vocabulary: Any = None  # read when the first guide is asked for: a second's work

    def of(self, schema: str | None) -> "JsonGuide | None":
        """The guide of an answer of this schema, None where it is free.

        Raises SparsightError for a schema that cannot be held to.
        """
        if schema is None:
            return None
        if self._vocabulary is None:
            _library()
            from llguidance.hf import from_tokenizer

            self._vocabulary = from_tokenizer(
                self._tokenizer, n_vocab=self._n_vocabulary, eos_token=self._end
            )
        return JsonGuide(self._vocabulary, self._n_vocabulary, schema)


class JsonGuide:
    """Follows one answer."""

    def __init__(self, vocabulary: Any, n_vocabulary: int, schema: str) -> None:
        llguidance = _library()
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_STYLE)
            self._matcher = llguidance.LLMatcher(vocabulary, grammar, log_level=0)
        except ValueError as error:
            raise _refusal(str(error)) from None
        if self._matcher.is_error():
            raise _refusal(self._matcher.get_error())
        self._bits = torch.zeros(1, (n_vocabulary + 31) // 32, dtype=torch.int32)
        self._n_vocabulary = n_vocabulary

    def allowed(self) -> Tensor:
        """bool (vocabulary,): what may come next; the end mark alone once the JSON is whole."""
        bits = self._bits
        self._matcher.unsafe_compute_mask_ptr(bits.data_ptr(), 4 * bits.numel())
        self._check()
        spread = (bits.view(-1, 1) >> torch.arange(32, dtype=torch.int32)) & 1
        return spread.flatten()[: self._n_vocabulary].bool()

    def take(self, token: int) -> None:
        """Goes on by one token."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refusal(self._matcher.get_error())


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise SparsightError(
            "answers in JSON need the package llguidance, which this server lacks; "
            "pip install llguidance, or leave response_format out",
            param=PARAM,
            code="unsupported_parameter",
        ) from None
    return llguidance


def _refusal(theirs: str) -> SparsightError:
    """In our own words: theirs speak of the inside of a library."""
    found = re.search(r"Unimplemented keys: (\[.*?\])", theirs)
    try:
        keys = json.loads(found[1]) if found else []
    except ValueError:
        keys = []
    which = f" because of {', '.join(map(repr, keys))}" if keys else ""
    return SparsightError(
        f"{PARAM}: answers cannot be held to this JSON schema{which}; "
        "use type, properties, required, items, enum, const, anyOf, $ref, pattern and bounds",
        param=PARAM,
        code="invalid_json_schema",
    )
