"""``sparsight features import-sae``: another's sparse autoencoder as a model with features to read."""

from pathlib import Path

import click


@click.command("import-sae")
@click.argument("sae", type=click.Path(exists=True, path_type=Path))
@click.argument("model", metavar="MODEL")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the model, which the other feature commands take.",
)
@click.option("--force", is_flag=True, help="Replace the model in --out, and its atlas.")
def import_sae(sae: Path, model: str, out: Path, force: bool) -> None:
    """Make a model of the autoencoder SAE and of MODEL, the dense encoder it was trained on.

    SAE is a folder with cfg.json and one .safetensors file, as Prisma and SAELens write them, or that
    file. MODEL is one of ours, whose image trunk it reads, or a CLIP: a folder or hub name of Hugging
    Face, or an OpenCLIP checkpoint. Prints the folder; `sparsight features build` makes its atlas.
    """
    from sparse_encoder.import_sae import import_sae as make

    encoder = make(sae, model, out, overwrite=force)
    click.echo(
        f"{encoder.sae.n_features} features of vectors of {encoder.sae.width} entries, read at "
        f"{encoder.sae.hook or 'the output of the image trunk'}",
        err=True,
    )
    click.echo(out)
