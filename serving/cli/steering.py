"""``sparsight steering``: the group of commands about edits themselves."""

import click

from serving.cli.steering_calibrate import calibrate
from serving.cli.steering_recipe import recipe
from serving.cli.steering_sweep import sweep


@click.group()
def steering() -> None:
    """Recipes: edits under a name. Doses: how far to steer, over many photographs or over one."""


steering.add_command(recipe)
steering.add_command(calibrate)
steering.add_command(sweep)
