"""``sparsight``: the group of all commands, and what a failure looks like.

A refusal is one line on standard error and exit code 1 (2 for misuse, as click has it). Nothing
heavy is imported until a command runs, so that help comes at once.
"""

import logging

import click

from serving.cli.assemble import assemble
from serving.cli.caption import caption
from serving.cli.demo import demo
from serving.cli.eval import evaluate
from serving.cli.explain import explain
from serving.cli.export import export
from serving.cli.features import features
from serving.cli.keys import keys
from serving.cli.locate import locate
from serving.cli.serve import serve
from serving.cli.steering import steering
from serving.cli.train import train
from serving.cli.verify import verify


class _Commands(click.Group):
    """Turns failures into messages, unless --debug wants their traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            from sparse_encoder.errors import SparsightError

            if isinstance(error, SparsightError):
                raise click.ClickException(error.message) from error
            kind = type(error).__name__
            raise click.ClickException(
                f"unexpected {kind}: {error}\n`sparsight --debug ...` shows where it came from"
            ) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks and log lines.")
@click.version_option(package_name="sparsight")
def main(debug: bool) -> None:
    """Caption photographs through a sparse concept code that you can read and edit."""
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING)


for command in (
    assemble,
    caption,
    demo,
    evaluate,
    explain,
    export,
    features,
    keys,
    locate,
    serve,
    steering,
    train,
    verify,
):
    main.add_command(command)


if __name__ == "__main__":  # accelerate launch -m serving.cli.main ...
    main(prog_name="sparsight")
