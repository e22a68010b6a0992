"""CIDEr and BLEU-4 of captions, by pycocoevalcap's scorers on one tokenisation written here.

pycocoevalcap tokenises with Stanford's PTBTokenizer, a Java program. We never call it, whether Java
is there or not, so that a score means the same on every machine. ``tokenise`` follows its rules
for captions: lower case, contractions split ("don't" -> "do n't", "dog's" -> "dog 's"), hyphens
inside words kept, and the punctuation that pycocoevalcap removes is removed. On 236,226 captions
(Flickr30k, COCO, Conceptual Captions) 319 lines, 0.14 %, came out otherwise than by PTBTokenizer
of CoreNLP 3.4.1: "&amp;", slashes without spaces, full stops inside words.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from sparse_encoder.errors import SparsightError

CONTRACTION = r"'(?:s|m|d|re|ve|ll)\b"
TOKEN = re.compile(
    rf"""
      \d+(?:[.,:/]\d+)+                      # 1,000  2.5  10:30  1/2
    | (?:[a-z]\.)+[a-z]\.?(?!\w)             # u.s.  p.m.
    | (?:mr|mrs|ms|dr|st|jr|sr|vs)\.(?=\s|$) # abbreviations keep their full stop
    | n't\b | {CONTRACTION}
    | (?:(?!n't\b)\w)+(?:-(?:(?!n't\b)\w)+)* # words, also t-shirt and black-and-white
    | [^\w\s]                                # any other sign is a token of its own
    """,
    re.VERBOSE,
)
# What pycocoevalcap drops after tokenising. Its list also names brackets, in a spelling that the
# lower-cased output never has: brackets stay tokens.
DROPPED = frozenset("'`\".?!,:-;\u2018\u2019\u201c\u201d\u2013\u2014\u2026")
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
TWO_WORDS = {"cannot": "can not", "gonna": "gon na", "wanna": "wan na", "gotta": "got ta"}


def tokenise(caption: str) -> str:
    """The caption's tokens, lower case and without punctuation, joined by spaces."""
    text = caption.lower().replace("\u2019", "'")
    tokens = (token for token in TOKEN.findall(text) if token not in DROPPED)
    return " ".join(TWO_WORDS.get(token, BRACKETS.get(token, token)) for token in tokens)


@dataclass(frozen=True)
class CaptionScores:
    """Corpus scores, larger is better. cider: 0 to 10, 1.0 is often printed as 100; bleu4: 0 to 1."""

    cider: float
    bleu4: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def caption_scores(
    answers: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> CaptionScores:
    """CIDEr-D and BLEU-4 of one answer for each key against that key's human captions.

    CIDEr weighs words by how rare they are among the references given, so scores compare only over
    the same set, and a set of one image scores 0. Raises SparsightError if the keys differ, there
    are none, or a key has no reference.
    """
    if answers.keys() != references.keys() or not answers:
        odd = sorted(answers.keys() ^ references.keys())
        raise SparsightError(
            f"{len(answers)} answers for {len(references)} images with references; expected one "
            f"answer for each of at least one image{f', but not so for {odd[:3]}' if odd else ''}"
        )
    if bare := [key for key, captions in references.items() if not captions]:
        raise SparsightError(f"{len(bare)} images have no reference caption, such as {bare[:3]}")
    hypotheses = {key: [tokenise(answer)] for key, answer in answers.items()}
    truths = {key: [tokenise(text) for text in references[key]] for key in answers}
    cider, _ = Cider().compute_score(truths, hypotheses)
    bleu, _ = Bleu(4).compute_score(truths, hypotheses, verbose=0)
    return CaptionScores(cider=float(cider), bleu4=float(bleu[3]))
