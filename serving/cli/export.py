"""``sparsight export``: the language model as other programs take it."""

import json
import shlex
from pathlib import Path

import click

from serving.cli.options import load_pipeline


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--merged",
    "out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the language model with its LoRA merged: a plain checkpoint that vLLM serves.",
)
@click.option("--cpu", is_flag=True, help="Print the vLLM command for its CPU build.")
@click.option("--force", is_flag=True, help="Overwrite an export that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(model: str, out: Path, cpu: bool, force: bool, as_json: bool) -> None:
    """Write the merged language model of MODEL, and print how vLLM serves it.

    The gateway is then started with --vllm-url. Keep that vLLM's port from everyone else.
    """
    from serving.engines.vllm_command import vllm_options
    from vlm.merged_checkpoint import write_merged

    pipeline = load_pipeline(model)
    made = write_merged(pipeline, out, force=force)
    command = shlex.join(
        ["vllm", "serve", str(made.path), "--host", "127.0.0.1", "--port", "8101"]
        + vllm_options(made.served_name, cpu=cpu)
    )
    if as_json:
        found = {
            "path": str(made.path),
            "served_model_name": made.served_name,
            "fingerprint": pipeline.fingerprint,
            "command": command,
        }
        click.echo(json.dumps(found))
        return
    click.echo(command)
