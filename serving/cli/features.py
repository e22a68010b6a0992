"""``sparsight features``: build the atlas of a model's features; find, read and write them out."""

from collections.abc import Sequence
from pathlib import Path

import click

from serving.cli.features_emerge import emerge
from serving.cli.features_find import FIND_COMMANDS
from serving.cli.features_import import import_sae
from serving.cli.features_report import REPORT_COMMANDS
from serving.cli.progress import StderrProgress
from serving.cli.shards import find_shard_files


@click.group()
def features() -> None:
    """Build the atlas of a model's features; find them, read them, write them out."""


@features.command()
@click.argument("model", metavar="MODEL", default="sparsight-mini")
@click.option(
    "--images",
    "images",
    multiple=True,
    required=True,
    metavar="SHARDS",
    help="WebDataset shards of photographs, a path or a glob such as 'data/train-*.tar'; again for "
    "more. Captions and labels in them test the names.",
)
@click.option(
    "--test-images",
    multiple=True,
    metavar="SHARDS",
    help="Shards that test the names beside half of --images, and count for nothing else; best "
    "such as the model was not trained on.",
)
@click.option(
    "--words",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Candidates for names, UTF-8, one word or phrase a line; again for more. Beside them "
    "come labels and the noun phrases of captions.",
)
@click.option(
    "--captions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="More captions to find noun phrases in: UTF-8 text, one a line.",
)
@click.option("--only-words", is_flag=True, help="No candidates but those of --words.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the atlas.  [default: features/ in the model]",
)
@click.option(
    "--embedding",
    default="efficientnet-lite0",
    show_default=True,
    metavar="NAME|FOLDER",
    help="Judge of Clarity and MonoSemanticity: a vision model of transformers, or trunk for the "
    "encoder's own.",
)
@click.option(
    "--top-images",
    default=16,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Strongest images kept a feature.",
)
@click.option("--force", is_flag=True, help="Replace the atlas in --out.")
def build(
    model: str,
    images: tuple[str, ...],
    test_images: tuple[str, ...],
    words: tuple[Path, ...],
    captions: Path | None,
    only_words: bool,
    out: Path | None,
    embedding: str,
    top_images: int,
    force: bool,
) -> None:
    """Measure and name all features of MODEL, and test the names. Prints the atlas' folder.

    Half of the photographs, by their ids, choose the names, the other half tests them. The same
    command goes on with a build that was stopped.
    """
    from tqdm import tqdm

    from sparse_encoder.encoder import SparseEncoder
    from sparse_encoder.evaluation.independent_embedding import load_embedding
    from sparse_encoder.features import AtlasSettings, build_features
    from vlm.feature_words import english_forms
    from vlm.model_folder import read_encoder_model

    if only_words and not words:
        raise click.UsageError("--only-words needs a list of words, --words LIST")
    folder, shards = read_encoder_model(model), find_shard_files(images, "--images")
    target = out or folder.path / "features"
    candidates = _candidates(shards, words, captions, only_words)
    click.echo(f"{len(candidates)} candidates for names, {len(shards)} shards", err=True)
    with StderrProgress() as progress:
        encoder = SparseEncoder.load(folder.path, progress)
        judge = load_embedding(embedding, progress)
    with tqdm(unit="item") as bar:

        def told(step: str, done: int, of: int) -> None:
            bar.set_description(step, refresh=False)
            bar.n, bar.total = done, of
            bar.refresh()

        atlas = build_features(
            encoder,
            shards,
            candidates,
            target,
            fingerprint=folder.fingerprint,
            test_shards=find_shard_files(test_images, "--test-images"),
            forms=english_forms(),
            vocabulary=_known_words(folder.path / "features"),
            embedding=judge,
            settings=AtlasSettings(top_images=top_images),
            overwrite=force,
            told=told,
        )
    n_live = int((~atlas.dead).sum())
    verdicts = atlas.trust or []
    counts = {
        verdict: verdicts.count(verdict) for verdict in ("verified", "doubtful", "unverified")
    }
    click.echo(
        f"{atlas.n_features} features, {n_live} live: "
        + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()),
        err=True,
    )
    click.echo(target)


for command in (*FIND_COMMANDS, *REPORT_COMMANDS, emerge, import_sae):
    features.add_command(command)


def _candidates(
    shards: Sequence[Path], lists: Sequence[Path], captions: Path | None, only_words: bool
) -> list[str]:
    from sparse_encoder.dataset import read_samples
    from sparse_encoder.features import read_text_lines, read_word_list
    from vlm.feature_words import name_candidates

    given = [word for path in lists for word in read_word_list(path)]
    if only_words:
        return given
    more = [] if captions is None else read_text_lines(captions, "the captions", "captions")
    return name_candidates(read_samples(shards), given, more)


def _known_words(folder: Path) -> frozenset[str]:
    """The vocabulary of the atlas that the model has, so that known concepts stay known."""
    from sparse_encoder.atlas import FeatureAtlas
    from sparse_encoder.errors import SparsightError

    try:
        return FeatureAtlas.load(folder).vocabulary
    except SparsightError:
        return frozenset()
