"""``sparsight train encoder`` and ``sparsight train vlm``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from serving.cli.options import read_settings

F = TypeVar("F", bound=Callable[..., Any])


_out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the run's result.",
)
_dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print what the run would take, and stop."
)
_settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=read_settings,
    metavar="KEY=VALUE",
    help="Change one field of the preset, may be repeated.",
)


def _cluster_options(gpus: int) -> Callable[[F], F]:
    """What --dry-run reckons with. gpus: the default."""

    def add(command: F) -> F:
        for option in (
            click.option(
                "--utilisation",
                default=0.35,
                show_default=True,
                help="For --dry-run: share of that peak that is reached, 0 to 1.",
            ),
            click.option(
                "--tflops",
                default=989.0,
                show_default=True,
                help="For --dry-run: peak of a GPU, 10^12 operations a second.",
            ),
            click.option(
                "--gpus", default=gpus, show_default=True, help="For --dry-run: GPUs in all."
            ),
        ):
            command = option(command)
        return command

    return add


@click.group()
def train() -> None:
    """Train the parts of a model."""


@train.command()
@click.argument("preset")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the data sets.",
)
@click.option(
    "--shards",
    multiple=True,
    metavar="PATH|URL",
    help="WebDataset shards to pretrain on, in place of those in --data; braces such as "
    "{0000..0099} stand for many. May be repeated.",
)
@click.option(
    "--val-shards",
    multiple=True,
    metavar="PATH|URL",
    help="Shards of pairs that R@1 and L0 are measured on as the run goes. May be repeated.",
)
@click.option(
    "--zeroshot-shards",
    multiple=True,
    metavar="PATH|URL",
    help="Shards of labelled pictures that are classified as the run goes, among all labels that "
    "they hold. May be repeated.",
)
@click.option(
    "--start-from",
    metavar="NAME|PATH",
    help="A CLIP checkpoint of OpenCLIP or Hugging Face, whose trunks the run begins with.",
)
@_out_option
@_settings_option
@_dry_run_option
@_cluster_options(gpus=64)
def encoder(
    preset: str,
    data: Path | None,
    shards: tuple[str, ...],
    val_shards: tuple[str, ...],
    zeroshot_shards: tuple[str, ...],
    start_from: str | None,
    out: Path | None,
    settings: dict[str, Any],
    dry_run: bool,
    gpus: int,
    tflops: float,
    utilisation: float,
) -> None:
    """Train an encoder by PRESET. The same command goes on with a run that was stopped.

    mini and tiny train sparse heads on frozen trunks. vit-b32-32x, vit-l14-72x, vit-small-scratch
    and vit-tiny-8x pretrain whole towers, also under `accelerate launch -m serving.cli.main train
    encoder ...`.
    """
    from sparse_encoder.pretrain.config import PRETRAIN_PRESETS, pretrain_run

    whole = preset in PRETRAIN_PRESETS
    if start_from:
        settings = {**settings, "start_from": start_from}
    if dry_run:
        if not whole:
            raise click.UsageError(f"--dry-run plans {', '.join(PRETRAIN_PRESETS)}, not {preset}")
        from sparse_encoder.pretrain.cluster_plan import Cluster, plan

        cluster = Cluster(gpus, tflops, utilisation)
        click.echo(plan(pretrain_run(preset, settings), cluster).table())
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    if whole:
        from sparse_encoder.pretrain.loop import pretrain
        from sparse_encoder.pretrain.shard_names import shard_names, training_shards

        pretrain(
            preset,
            training_shards(data, shards),
            out,
            settings,
            val_urls=shard_names(val_shards, "val_shards"),
            zeroshot_urls=shard_names(zeroshot_shards, "zeroshot_shards"),
        )
        return
    if data is None or shards or val_shards or zeroshot_shards or start_from:
        raise click.UsageError(
            f"{preset} reads the data sets in --data; --shards, --val-shards, --zeroshot-shards and "
            "--start-from are for pretraining"
        )
    _refuse_processes(preset)
    from sparse_encoder.train import train_encoder

    train_encoder(preset, data, out, settings)


@train.command()
@click.argument("preset")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the data sets, for mini and tiny.",
)
@click.option(
    "--shards",
    multiple=True,
    metavar="PATH|URL",
    help="WebDataset shards of captioned images; braces such as {0000..0099} stand for many. May "
    "be repeated.",
)
@click.option(
    "--conversations",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LLaVA-style conversations, a JSON list or JSON lines. May be repeated.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the conversations' images.  [default: that of their file]",
)
@click.option(
    "--encoder",
    "encoder_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What `sparsight train encoder` wrote, or a Hugging Face CLIP, which stays dense.  "
    "[default: the model in the box]",
)
@click.option(
    "--start-from",
    metavar="NAME|PATH",
    help="A model whose projector, adapter and encoder the run begins with.",
)
@_out_option
@_settings_option
@_dry_run_option
@_cluster_options(gpus=8)
@click.option(
    "--text-tokens",
    default=128,
    show_default=True,
    help="For --dry-run: text tokens of a sample, template included.",
)
@click.option(
    "--answer-tokens",
    default=64,
    show_default=True,
    help="For --dry-run: how many of them are of answers.",
)
def vlm(
    preset: str,
    data: Path | None,
    shards: tuple[str, ...],
    conversations: tuple[Path, ...],
    images: Path | None,
    encoder_folder: Path | None,
    start_from: str | None,
    out: Path | None,
    settings: dict[str, Any],
    dry_run: bool,
    gpus: int,
    tflops: float,
    utilisation: float,
    text_tokens: int,
    answer_tokens: int,
) -> None:
    """Train the projector and LoRA of PRESET. The same command goes on with a run that was stopped.

    mini and tiny train the captioner in the box on the data sets in --data. llama-8b-72x, smollm2 and
    tiny-8x tune any language model (--set llm=NAME or FOLDER) on --shards, --conversations or both.
    All of them also under `accelerate launch -m serving.cli.main train vlm ...`.
    """
    from vlm.train_config import PRESETS

    if start_from:
        settings = {**settings, "start_from": start_from}
    in_the_box = preset in PRESETS
    if dry_run:
        if in_the_box:
            raise click.UsageError(f"--dry-run plans tuning, not {preset}")
        from sparse_encoder.pretrain.cluster_plan import Cluster
        from vlm.tuning.config import tune_run
        from vlm.tuning.conversations import read_conversations
        from vlm.tuning.plan import RowShape, tune_plan

        cluster, row = Cluster(gpus, tflops, utilisation), RowShape(text_tokens, answer_tokens)
        run = tune_run(preset, settings)
        plan = tune_plan(
            run,
            cluster,
            row,
            encoder=encoder_folder,
            n_conversations=len(read_conversations(conversations, images, skip_bad=run.skip_bad)),
            has_captions=bool(shards) or not conversations,
        )
        click.echo(plan.table())
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    if in_the_box:
        if data is None or shards or conversations or images:
            raise click.UsageError(
                f"{preset} reads the data sets in --data; --shards, --conversations and --images are "
                "for tuning"
            )
        from vlm.train_run import train_vlm

        train_vlm(preset, data, out, settings, encoder_folder=encoder_folder)
        return
    if data is not None:
        raise click.UsageError(f"{preset} reads --shards and --conversations, not --data")
    from sparse_encoder.pretrain.shard_names import shard_names
    from vlm.tuning.run import tune

    tune(
        preset,
        out,
        settings,
        urls=shard_names(shards),
        conversations=conversations,
        images=images,
        encoder=encoder_folder,
    )


@train.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    help="Of a model, in the order of the models; only ratios count. Default: all alike.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the mean.",
)
def average(models: tuple[str, ...], weights: tuple[float, ...], out: Path) -> None:
    """Make one captioner of several: the mean of the projectors and adapters of MODELS.

    For runs of one encoder and language model that began with the same weights (a model soup). Their
    mean often captions and steers better than each of them, and answers as quickly as one.
    """
    from vlm.average_runs import average_runs

    average_runs(models, weights or [1.0] * len(models), out)
    click.echo(str(out))


def _refuse_processes(preset: str) -> None:
    """For trainers that share nothing out: processes side by side would write over each other."""
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise click.UsageError(
            f"{preset} trains in one process, and {processes} were started; start it without "
            "accelerate, or take another preset"
        )
