"""The options of ``sparsight serve`` that say what runs the language model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from serving.engines.choice import EngineOptions

F = TypeVar("F", bound=Callable[..., Any])


def engine_options(command: F) -> F:
    """``--engine``, ``--vllm-url``, ``--vllm-python`` and ``--vllm-arg``."""
    options = (
        click.option(
            "--engine",
            type=click.Choice(["vllm", "transformers", "auto"]),
            default="auto",
            show_default=True,
            help="What runs the language model; auto takes vLLM where it is installed.",
        ),
        click.option(
            "--vllm-url",
            "vllm_urls",
            multiple=True,
            metavar="URL",
            help="A vLLM server that runs already, on the checkpoint of `sparsight export`; may be "
            "repeated. Its API key is read from SPARSIGHT_VLLM_KEY.",
        ),
        click.option(
            "--vllm-python",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar="SPARSIGHT_VLLM_PYTHON",
            help="The Python of the environment that vLLM is installed in, also from "
            "SPARSIGHT_VLLM_PYTHON.  [default: this one]",
        ),
        click.option(
            "--vllm-arg",
            "vllm_args",
            multiple=True,
            metavar="OPTION",
            help="One more option for the vLLM that is started, e.g. "
            "--vllm-arg=--max-num-seqs=256; may be repeated.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_engine_options(
    engine: Any, vllm_urls: tuple[str, ...], vllm_python: Path | None, vllm_args: tuple[str, ...]
) -> "EngineOptions":
    """What the four options say together. Raises SparsightError where they contradict."""
    from serving.engines.choice import EngineOptions

    if vllm_urls or engine == "transformers":
        vllm_python = _only_from_command_line(vllm_python)
    return EngineOptions(engine, vllm_urls, vllm_python, vllm_args)


def _only_from_command_line(python: Path | None) -> Path | None:
    """None where the variable, not the user's own line, named it: it may lie there for other runs."""
    source = click.get_current_context().get_parameter_source("vllm_python")
    return python if source == click.core.ParameterSource.COMMANDLINE else None
