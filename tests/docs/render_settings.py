"""Writes docs/reference/settings.md from the dataclasses of training runs and of the gateway.

Run ``python tests/docs/render_settings.py`` after a change of a field, its default, its comment or a preset.
"""

import ast
import inspect
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

from serving.limits import Limits
from sparse_encoder import encoder_run
from sparse_encoder.pretrain.config import PRETRAIN_PRESETS, PretrainRun, pretrain_run
from vlm import train_config
from vlm.tuning.config import TUNE_PRESETS, TuneRun

TARGET = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
INTRO = """# Settings

<!-- Made by tests/docs/render_settings.py; do not edit by hand. -->

A preset of `sparsight train` is a set of values for the settings here. `--set NAME=VALUE` changes one,
as often as needed; the value is JSON (`true`, `0.5`, `[3, 3]`), or text. A run writes all its values
into its folder. What is not listed under a preset has its default.
"""
# Title, the command that takes them, the defaults, and the presets by name.
RUNS: list[tuple[str, str, Any, Mapping[str, Any]]] = [
    (
        "Encoder on frozen trunks",
        "`sparsight train encoder PRESET --data DATA --out DIR`",
        encoder_run.EncoderRun(),
        encoder_run.PRESETS,
    ),
    (
        "Encoder from image-text pairs",
        "`sparsight train encoder PRESET --shards SHARDS --out DIR`",
        PretrainRun(),
        {name: pretrain_run(name, {}) for name in PRETRAIN_PRESETS},
    ),
    (
        "Captioner in the box",
        "`sparsight train vlm PRESET --data DATA --out DIR`",
        train_config.VlmRun(),
        train_config.PRESETS,
    ),
    (
        "Captioner on any language model",
        "`sparsight train vlm PRESET --encoder MODEL --out DIR`",
        TuneRun(),
        TUNE_PRESETS,
    ),
    ("Limits of the gateway", "`sparsight serve --limit NAME=VALUE`", Limits(), {}),
]


def render() -> str:
    """The whole page."""
    return "\n".join([INTRO, *(_section(*run) for run in RUNS)])


def settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value and meaning of each field, nested ones after the field that holds them."""
    meanings = _meanings(type(config))
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            yield from settings(value, f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}", value, meanings.get(one.name, "")


def _section(title: str, command: str, defaults: Any, presets: Mapping[str, Any]) -> str:
    # What --limit cannot set has an option of its own.
    rows = [row for row in settings(defaults) if not row[0].startswith("remote.")]
    known = {name: value for name, value, _ in rows}
    lines = [
        f"## {title}\n",
        f"{command}\n",
        "| setting | default | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{name}` | {_value(value)} | {_cell(meaning)} |" for name, value, meaning in rows]
    if presets:
        lines += ["", "| preset | its values |", "| --- | --- |"]
    for preset, run in presets.items():
        changed = [f"`{n}={_text(v)}`" for n, v, _ in settings(run) if v != known[n]]
        lines.append(f"| `{preset}` | {', '.join(changed) or 'the defaults'} |")
    return "\n".join(lines) + "\n"


def _meanings(kind: type) -> dict[str, str]:
    """What stands behind each field of a dataclass as a comment, or below it as a string."""
    source = dedent(inspect.getsource(kind))
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    body = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef)).body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        text = comments.get(node.end_lineno or 0, "")
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        found[node.target.id] = text
    return found


def _value(value: Any) -> str:
    return f"`{_text(value)}`" if value != "" else "empty"


def _text(value: Any) -> str:
    """As ``--set`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
