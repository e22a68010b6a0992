"""``sparsight assemble``: everything in the cache before it is needed."""

import click

from serving.cli.options import load_pipeline, model_option


@click.command()
@model_option
def assemble(model: str) -> None:
    """Fetch and put together the parts of the model, so that later starts are quick and offline."""
    pipeline = load_pipeline(model)
    click.echo(f"{pipeline.name} {pipeline.fingerprint}")
