"""``sparsight demo``: the page alone, for a gateway elsewhere."""

import click


@click.command()
@click.option(
    "--api",
    "api_url",
    required=True,
    metavar="URL",
    help="Address of a running gateway, such as http://gpu-box:8000.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--key",
    envvar="SPARSIGHT_API_KEY",
    show_envvar=True,
    help="API key of that gateway, where it asks for one. Whoever reaches the page then asks in its "
    "name.",
)
def demo(api_url: str, host: str, port: int, key: str | None) -> None:
    """Serve the page at /demo with the models of a gateway elsewhere.

    Nothing is computed here; the gateway may start later, or go and come back.
    """
    from serving.launch import address, bind, load_pages, run_page
    from serving.relay import create_relay

    app = create_relay(api_url, key=key)
    bound = bind(host, port)
    url = address(bound)
    for mount in load_pages(url):
        mount(app)

    def ready() -> None:
        click.echo(f"page: {url}/demo", err=True)
        click.echo("Ctrl-C ends it", err=True)

    run_page(app, bound, ready)
