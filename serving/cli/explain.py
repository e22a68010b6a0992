"""``sparsight explain``: why a code, a likeness or a word of a caption is what it is."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli.options import load_pipeline, model_option
from serving.cli.progress import StderrProgress

if TYPE_CHECKING:
    from vlm.explain.explain import Explanation
    from vlm.explain.similarity import Similarity
    from vlm.explain.word_cause import WordCause


@click.command()
@click.argument("photo", metavar="PHOTO")
@click.option(
    "--text", metavar="TEXT", help="Also why the photograph is as like this text as it is."
)
@click.option(
    "--word",
    metavar="WORD",
    help="Also which features made the caption say this word, each tried out by ablating it beside "
    "random features. Takes about ten seconds on one CPU core.",
)
@click.option(
    "--words",
    "word_list",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What the code is said in, UTF-8, one word or phrase a line.  [default: the names of the "
    "photograph's active features]",
)
@click.option(
    "--top",
    type=click.IntRange(1, 256),
    default=10,
    show_default=True,
    help="How many features, words and terms are listed.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@model_option
def explain(
    photo: str,
    text: str | None,
    word: str | None,
    word_list: Path | None,
    top: int,
    as_json: bool,
    model: str,
) -> None:
    """Print what a photograph's code is made of, strongest first, as features and as words.

    PHOTO may be - for standard input. Activations are raw and in multiples of the feature's p99, the
    99th percentile of its activations; the share is of the code's squared norm. The words are the few
    whose weighted codes add up to the photograph's; a list of your own is read once for a model, 4 ms a
    word on one CPU core, and kept in the cache.
    """
    from sparse_encoder.features import read_word_list
    from sparse_encoder.image import decode_image, open_image
    from vlm.explain.explain import explain as explain_photo

    image = decode_image(sys.stdin.buffer.read()) if photo == "-" else open_image(photo)
    words = None if word_list is None else read_word_list(word_list)
    pipeline = load_pipeline(model)
    with StderrProgress() as progress:
        found = explain_photo(
            pipeline, image, text=text, word=word, words=words, top=top, told=progress
        )
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: "Explanation") -> Iterator[str]:
    """The explanation as tables, an empty line between them."""
    yield f"{found.n_active} features active; the strongest:"
    yield f"{'feature':>9}  {'name':24}{'activation':>11}{'p99':>7}{'share':>8}"
    for f in found.features:
        p99 = "-" if f.p99 is None else f"{f.p99:.2f}"
        head = f"{f.feature:9}  {f.name:24.24}"
        yield f"{head}{f.activation:11.2f}{p99:>7}{100 * f.share:6.1f} %"
    words = found.words
    yield ""
    yield f"as words (SpLiCE): {words.n_words} of {words.n_candidates:,}, cosine {words.cosine:.2f}"
    for w in words.words:
        yield f"{w.weight:9.3f}  {w.word}"
    if found.similarity is not None:
        yield from _similarity_lines(found.similarity)
    if found.word is not None:
        yield from _word_lines(found.word)


def _similarity_lines(found: "Similarity") -> Iterator[str]:
    yield ""
    yield f"cosine with {found.text!r}: {found.cosine:.4f}, over {found.n_shared} shared features"
    for term in found.terms:
        yield f"{term.term:+9.4f}  {term.feature:6}  {term.name}"
    if found.n_shared > len(found.terms):
        yield f"{found.rest:+9.4f}  the other {found.n_shared - len(found.terms)}"


def _word_lines(found: "WordCause") -> Iterator[str]:
    yield ""
    yield f"caption: {_line(found.caption)}"
    asked = f"{found.word!r}" if found.said is None else f"{found.said!r}"
    where = "would come closest" if found.said is None else "is said"
    yield f"{asked} {where} after {_line(found.before)!r}, log-probability {found.log_prob:.3f}"
    if found.together is None or found.together_control is None:
        yield "no feature makes it likelier"
        return
    yield "features that make it likelier, and what it loses without each:"
    yield f"{'feature':>9}  {'name':24}{'guess':>7}{'loss':>8}{'random, most':>14}  verdict"
    for c in found.causes:
        most = f"{max(c.control_losses):.3f}" if c.control_losses else "-"
        verdict = "confirmed" if c.confirmed else "refuted"
        gone = "" if found.said is None or c.ablated.says_word else "; not said without it"
        head = f"{c.feature:9}  {c.name:24.24}{c.attribution:7.3f}"
        yield f"{head}{c.ablated.loss:8.3f}{most:>14}  {verdict}{gone}"
    for which, trial in (
        ("all of them", found.together),
        ("as many random ones", found.together_control),
    ):
        yield f"without {which}: loss {trial.loss:.3f}, {_line(trial.caption)}"


def _line(text: str) -> str:
    """A caption on one line, whatever the model put into it."""
    return " ".join(text.split())
