"""``sparsight serve``: the API and the demo page."""

from pathlib import Path

import click

from serving.cli.engine_options import engine_options, read_engine_options
from serving.cli.options import load_pipeline, model_option
from serving.cli.progress import StderrProgress


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
@engine_options
def serve(
    host: str,
    port: int,
    model: str,
    demo: bool,
    engine: str,
    vllm_urls: tuple[str, ...],
    vllm_python: Path | None,
    vllm_args: tuple[str, ...],
) -> None:
    """Serve OpenAI's API with steering, and a page to try it.

    Prints one curl command once it is ready: a steered caption of an example photograph.
    """
    from serving.launch import address, bind, example_curl, example_photo, load_pages, run

    options = read_engine_options(engine, vllm_urls, vllm_python, vllm_args)
    bound = bind(host, port)
    url = address(bound)
    pages = load_pages(url) if demo else []
    pipeline = load_pipeline(model)

    from serving.app import create_app
    from serving.engines.choice import choose_engine
    from serving.limits import Limits

    limits = Limits()
    log_name = f"vllm-{bound.getsockname()[1]}.log"
    with StderrProgress() as progress:
        chosen = choose_engine(options, pipeline, limits, log_name=log_name, progress=progress)
    click.echo(f"engine: {chosen.name} ({chosen.why})", err=True)
    click.echo(f"model: {pipeline.name} {pipeline.fingerprint[:12]}", err=True)
    app = create_app(pipeline, limits=limits, mounts=pages, engine=chosen.maker)
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
