"""One explanation of a photograph: command line and server both call this."""

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from sparse_encoder.word_codes import Told
from vlm.explain.similarity import Similarity, split_similarity
from vlm.explain.strongest import StrongFeature, global_entries, strongest_features
from vlm.explain.word_cause import WordCause, explain_word
from vlm.explain.word_place import check_word
from vlm.explain.words import Decomposition, decompose
from vlm.pipeline import Pipeline

T = TypeVar("T")

DEFAULT_TOP = 10
MAX_TOP = 256  # features, words and terms that are listed
MAX_TEXT_LENGTH = 1000  # characters; the text tower reads 64 tokens, some 300 characters


@dataclass(frozen=True)
class Explanation:
    """What a photograph's code is made of; the last two where a text or a word was asked about."""

    fingerprint: str  # of the model
    sha256: str  # of the image's bytes
    n_active: int  # features above 0 in the global code
    norm: float  # L2 of the global code, raw units
    features: tuple[StrongFeature, ...]
    words: Decomposition
    similarity: Similarity | None
    word: WordCause | None

    def to_json(self) -> dict[str, Any]:
        """All of it as one JSON object; the keys are the fields' names."""
        return asdict(self)


def explain(
    pipeline: Pipeline,
    image: DecodedImage,
    *,
    text: str | None = None,
    word: str | None = None,
    words: Sequence[str] | None = None,
    top: int = DEFAULT_TOP,
    seed: int = 0,
    told: Told = lambda *_: None,
) -> Explanation:
    """The photograph as its features and as words; its likeness to `text`; why `word` is said.

    words: what the code is said in, by default the names of all its active features; the first time
    with a list takes as long as the text tower needs to read it, of which `told` tells (what, share
    done). top: how many features, words and terms are listed. seed: draws the random features beside
    the causes of a word. Raises SparsightError, `param` the bare key, for what it refuses.
    """
    return finish(
        explain_in_steps(
            pipeline, image, text=text, word=word, words=words, top=top, seed=seed, told=told
        )
    )


def explain_in_steps(
    pipeline: Pipeline,
    image: DecodedImage,
    *,
    text: str | None = None,
    word: str | None = None,
    words: Sequence[str] | None = None,
    top: int = DEFAULT_TOP,
    seed: int = 0,
    told: Told = lambda *_: None,
) -> Generator[str, None, Explanation]:
    """The same, a step at a time: yields the name of each that is done, returns the Explanation."""
    _check(pipeline, text, word, top)
    codes = pipeline.encode([image])
    index, value = global_entries(codes)
    names = {pipeline.atlas.names[i] for i in index.tolist()} - {""}
    said = yield from decompose(
        codes,
        sorted(names) if words is None else words,
        pipeline.encoder.encode_texts,
        pipeline.fingerprint,
        top,
        told,
    )
    yield "words"
    similarity = None
    if text is not None:
        (text_code,) = pipeline.encoder.encode_texts([text])
        similarity = split_similarity(codes, text, text_code, pipeline.atlas, top)
        yield "text"
    cause = None
    if word is not None:
        cause = yield from explain_word(pipeline, image, word, seed=seed)
    return Explanation(
        fingerprint=pipeline.fingerprint,
        sha256=image.sha256,
        n_active=len(value),
        norm=float(value.double().norm()),
        features=strongest_features(codes, pipeline.atlas, top),
        words=said,
        similarity=similarity,
        word=cause,
    )


def finish(steps: Generator[str, None, T]) -> T:
    """What the steps return in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def _check(pipeline: Pipeline, text: str | None, word: str | None, top: int) -> None:
    if not 1 <= top <= MAX_TOP:
        raise SparsightError(f"top is {top}, expected 1 to {MAX_TOP}", param="top")
    if text is not None and not text.strip():
        raise SparsightError(
            "text is empty; give a sentence or a word, or leave it out", param="text"
        )
    if text is not None and len(text) > MAX_TEXT_LENGTH:
        raise SparsightError(
            f"text has {len(text):,} characters, at most {MAX_TEXT_LENGTH:,} are allowed; the text "
            "tower reads no more than its first 64 tokens",
            param="text",
        )
    if word is not None:
        check_word(word, pipeline.tokenizer)
