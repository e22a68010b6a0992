"""``sparsight verify``: whether a receipt is true."""

from typing import TextIO

import click

from serving.cli.options import load_pipeline, model_option


@click.command()
@click.argument("receipt", type=click.File(encoding="utf-8"))
@click.option(
    "--image",
    "images",
    multiple=True,
    required=True,
    metavar="PHOTO",
    help="Photograph of the request; again for each further one, in their order.",
)
@model_option
@click.pass_context
def verify(ctx: click.Context, receipt: TextIO, images: tuple[str, ...], model: str) -> None:
    """Rebuild the codes that RECEIPT speaks of and say whether all it claims is so.

    RECEIPT is a file (- for standard input) with a receipt, an answer of the server, or a line of
    `sparsight caption --json`. Exit code 0: equal. 1: not, each difference is a line.
    """
    from serving.receipt_file import read_receipt
    from sparse_encoder.image import open_image
    from vlm.receipt import verify_receipt

    claimed = read_receipt(receipt.read())
    photos = [open_image(image) for image in images]
    differences = verify_receipt(claimed, photos, load_pipeline(model))
    for difference in differences:
        click.echo(difference)
    if differences:
        ctx.exit(1)
    click.echo("equal")
