"""``sparsight features emerge``: what each feature of a training run was at its earlier checkpoints."""

from pathlib import Path

import click

from serving.cli.shards import find_shard_files


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--images",
    multiple=True,
    required=True,
    metavar="SHARDS",
    help="WebDataset shards of photographs, a path or a glob such as 'data/val-*.tar'; again for "
    "more. Features are compared on them, and they are the pictures of the page.",
)
@click.option(
    "--words",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Candidates for names, UTF-8, one word or phrase a line; again for more.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for index.html, emergence.json and pictures/.",
)
@click.option(
    "--top-images",
    default=4,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Strongest images kept a feature and checkpoint.",
)
@click.option(
    "--at-least",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Images that a feature must be active on, then and in the end, to be judged.",
)
@click.option(
    "--limit",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Features on the page, those that changed their meaning first; the JSON holds all.",
)
@click.option("--no-pictures", is_flag=True, help="Copy no photograph to --out.")
@click.option("--force", is_flag=True, help="Replace the page in --out.")
def emerge(
    run: Path,
    images: tuple[str, ...],
    words: tuple[Path, ...],
    out: Path,
    top_images: int,
    at_least: int,
    limit: int,
    no_pictures: bool,
    force: bool,
) -> None:
    """Follow every feature of RUN's end back over the kept checkpoints. Prints the page's path.

    RUN is the --out of `sparsight train encoder`. Each feature is matched by its index and by the
    correlation of activations, and named anew at each checkpoint; those that changed their
    meaning are flagged. The same command goes on with one that was stopped.
    """
    from tqdm import tqdm

    from sparse_encoder.emergence.drift import CHANGED, KEPT
    from sparse_encoder.emergence.page import refuse_occupied, write_emergence
    from sparse_encoder.emergence.stages import find_stages
    from sparse_encoder.emergence.watch import WatchSettings, watch
    from sparse_encoder.features import read_word_list
    from vlm.feature_words import english_forms

    refuse_occupied(out, force)
    stages, shards = find_stages(run), find_shard_files(images, "--images")
    candidates = [word for path in words for word in read_word_list(path)]
    click.echo(
        f"{len(stages)} checkpoints, {len(shards)} shards, {len(candidates)} words", err=True
    )
    with tqdm(unit="item") as bar:

        def told(step: str, done: int, of: int) -> None:
            bar.set_description(step, refresh=False)
            bar.n, bar.total = done, of
            bar.refresh()

        emergence, state = watch(
            stages,
            shards,
            candidates,
            out,
            run=run.resolve().name,
            forms=english_forms(),
            settings=WatchSettings(top_images=top_images, at_least=at_least),
            told=told,
        )
        told("page", 0, 1)
        page = write_emergence(emergence, shards, out, limit=limit, pictures=not no_pictures)
        state.remove()
        told("done", 1, 1)
    for stage in emergence.stages:
        click.echo(
            f"{stage.label}: density {100 * stage.density_of_code:.2f} %, "
            f"{stage.n_live} live, {stage.count(KEPT)} kept, {stage.count(CHANGED)} changed, "
            f"{int(stage.moved.sum())} moved, modality distance {stage.modality_distance:.2f}",
            err=True,
        )
    click.echo(page)
