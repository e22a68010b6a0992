"""``sparsight steering``: the group of commands about edits themselves."""

import click

from serving.cli.steering_recipe import recipe


@click.group()
def steering() -> None:
    """Edits under a name: write, read and check recipes."""


steering.add_command(recipe)
