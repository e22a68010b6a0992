"""``sparsight serve``: the API and the demo page."""

from pathlib import Path
from typing import Literal

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
@click.option(
    "--demo/--no-demo",
    default=None,
    help="Also the page at /demo.  [default: yes, unless --keys is given]",
)
@engine_options
@click.option(
    "--keys",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of API keys, made by `sparsight keys add`. Without it anybody who reaches the port "
    "may ask.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Bound of what is taken on, may be repeated: max_body_bytes, max_images, max_pixels, "
    "max_tokens, max_open, deadline_s (seconds), key_per_minute, ...; docs/how-to/deploy.md has all.",
)
@click.option(
    "--image-host",
    "image_hosts",
    multiple=True,
    metavar="HOST",
    help="Host from which images are fetched that a chat gives by address, may be repeated; "
    "*.example.org for all below it.  [default: none]",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Whose pages may read answers in a browser, such as https://example.org, may be "
    "repeated.  [default: nobody's]",
)
@click.option(
    "--grace",
    "grace_s",
    type=click.IntRange(1, 3600),
    default=10,
    show_default=True,
    help="Seconds that open answers may still take once the server is told to stop.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Log lines on standard error: plain, or a JSON object each.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="From which lines on; info has one for each request.",
)
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for /v1/files and /v1/batches; without it there are none.",
)
def serve(
    host: str,
    port: int,
    model: str,
    demo: bool | None,
    engine: str,
    vllm_urls: tuple[str, ...],
    vllm_python: Path | None,
    vllm_args: tuple[str, ...],
    keys: Path | None,
    limits: tuple[str, ...],
    image_hosts: tuple[str, ...],
    cors_origins: tuple[str, ...],
    grace_s: int,
    log_format: Literal["text", "json"],
    log_level: str,
    files: Path | None,
) -> None:
    """Serve OpenAI's API with steering, and a page to try it.

    Prints one curl command once it is ready: a steered caption of an example photograph.
    """
    from serving.spin import spin_briefly

    spin_briefly()  # before anything that imports torch

    from serving.keys import read_keys
    from serving.launch import address, bind, example_curl, example_photo, load_pages, run
    from serving.limits import read_limits
    from serving.logs import set_up_logs

    if demo and keys is not None:
        raise click.UsageError("the page at /demo has no API key; leave out --demo or --keys")
    demo = keys is None if demo is None else demo
    bounds = read_limits(limits, image_hosts)
    if keys is not None:
        read_keys(keys)  # a fault in it shows before the slow part of starting
    set_up_logs(log_format, log_level)
    options = read_engine_options(engine, vllm_urls, vllm_python, vllm_args)
    bound = bind(host, port)
    url = address(bound)
    pages = load_pages(url) if demo else []
    pipeline = load_pipeline(model)

    from serving.app import create_app
    from serving.engines.choice import choose_engine
    from vlm.wordnet import wordnet

    wordnet()  # now, or the first request that takes something out waits a second for it

    log_name = f"vllm-{bound.getsockname()[1]}.log"
    with StderrProgress() as progress:
        chosen = choose_engine(options, pipeline, bounds, log_name=log_name, progress=progress)
    click.echo(f"engine: {chosen.name} ({chosen.why})", err=True)
    click.echo(f"model: {pipeline.name} {pipeline.fingerprint[:12]}", err=True)
    app = create_app(
        pipeline,
        limits=bounds,
        mounts=pages,
        keys=keys,
        cors_origins=cors_origins,
        engine=chosen.maker,
        files=files,
    )
    photo = example_photo() if keys is None else None  # no key of ours could be in it
    curl = example_curl(url, pipeline.name, photo) if photo is not None else None

    def ready() -> None:
        click.echo(f"API:  {url}/v1", err=True)
        if demo:
            click.echo(f"page: {url}/demo", err=True)
        if photo is not None and curl is not None:
            click.echo(f"try it, {photo.name} with its cat turned into a dog:", err=True)
            click.echo(curl)
        click.echo("Ctrl-C ends it", err=True)

    run(app, bound, ready, grace_s)
