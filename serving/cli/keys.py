"""``sparsight keys``: the API keys of a server."""

import json
from dataclasses import asdict
from pathlib import Path

import click

file_option = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="keys.json",
    show_default=True,
    help="File of keys, as --keys of `sparsight serve` takes it.",
)


@click.group()
def keys() -> None:
    """API keys: several, each with a name; their file holds only hashes of them.

    A running server obeys a change from the next request on.
    """


@keys.command()
@click.argument("name")
@file_option
@click.option(
    "--per-minute",
    type=click.IntRange(1),
    help="Requests a minute.  [default: the server's key_per_minute]",
)
@click.option(
    "--open",
    "most_open",
    type=click.IntRange(1),
    help="Requests at once.  [default: the server's key_open]",
)
def add(name: str, path: Path, per_minute: int | None, most_open: int | None) -> None:
    """Make a key named NAME and print it, once: nobody can read it again."""
    from serving.keys import add_key

    click.echo(add_key(path, name, per_minute=per_minute, open=most_open))
    click.echo(f"its hash is in {path}; the key itself is nowhere but above", err=True)


@keys.command("list")
@file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_keys(path: Path, as_json: bool) -> None:
    """Show name, date and limits of each key."""
    from serving.keys import read_keys

    for key in read_keys(path):
        shown = {name: value for name, value in asdict(key).items() if name != "sha256"}
        limits = f"{key.per_minute or 'server'} a minute, {key.open or 'server'} at once"
        click.echo(json.dumps(shown) if as_json else f"{key.name}\t{key.created}\t{limits}")


@keys.command()
@click.argument("name")
@file_option
def remove(name: str, path: Path) -> None:
    """Take the key named NAME away; requests with it are refused from now on."""
    from serving.keys import remove_key

    remove_key(path, name)
    click.echo(f"removed {name} from {path}", err=True)
