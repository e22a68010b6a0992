"""``sparsight features``: find, read, compare and write out the features of a model."""

import click

from serving.cli.features_find import FIND_COMMANDS
from serving.cli.features_report import REPORT_COMMANDS


@click.group()
def features() -> None:
    """Find features by word or photograph, read them, write them out."""


for command in (*FIND_COMMANDS, *REPORT_COMMANDS):
    features.add_command(command)
