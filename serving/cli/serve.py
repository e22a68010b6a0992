"""``sparsight serve``: the API and the demo page."""

import click

from serving.cli.options import load_pipeline, model_option


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@model_option
@click.option("--demo/--no-demo", default=True, show_default=True, help="Also the page at /demo.")
@click.option(
    "--engine",
    type=click.Choice(["transformers"]),
    default="transformers",
    show_default=True,
    help="What runs the language model.",
)
def serve(host: str, port: int, model: str, demo: bool, engine: str) -> None:
    """Serve OpenAI's API with steering, and a page to try it.

    Prints one curl command once it is ready: a steered caption of an example photograph.
    """
    from serving.launch import address, bind, example_curl, example_photo, load_pages, run

    bound = bind(host, port)
    url = address(bound)
    pages = load_pages(url) if demo else []
    pipeline = load_pipeline(model)
    click.echo(f"engine: {engine}, model: {pipeline.name} {pipeline.fingerprint[:12]}", err=True)

    from serving.app import create_app

    app = create_app(pipeline, mounts=pages)
    photo = example_photo()
    curl = example_curl(url, pipeline.name, photo) if photo is not None else None

    def ready() -> None:
        click.echo(f"API:  {url}/v1", err=True)
        if demo:
            click.echo(f"page: {url}/demo", err=True)
        if photo is not None:
            click.echo(f"try it, {photo.name} with its cat turned into a dog:", err=True)
            click.echo(curl)
        click.echo("Ctrl-C ends it", err=True)

    run(app, bound, ready)
