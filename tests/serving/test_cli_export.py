"""``sparsight export`` and the engine options of ``sparsight serve``."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import serving.cli.export
from serving.cli.main import main
from tests.tiny_model import tiny_pipeline


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.cli.export, "load_pipeline", lambda model: tiny_pipeline())


def test_an_export_prints_the_command_that_serves_it(tmp_path: Path) -> None:
    out = tmp_path / "llm"
    done = CliRunner().invoke(main, ["export", "tiny", "--merged", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"vllm serve {out} ")
    for option in ("--served-model-name tiny-ffffffffffff", "--enable-prompt-embeds", "127.0.0.1"):
        assert option in done.stdout
    assert (out / "model.safetensors").is_file()
    again = CliRunner().invoke(main, ["export", "tiny", "--merged", str(out)])
    assert again.exit_code == 1 and "--force" in again.stderr
    forced = CliRunner().invoke(
        main, ["export", "tiny", "--merged", str(out), "--force", "--cpu", "--json"]
    )
    found = json.loads(forced.stdout)
    assert found["served_model_name"] == "tiny-ffffffffffff" and found["path"] == str(out)
    assert "--dtype float32" in found["command"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--engine", "transformers", "--vllm-url", "http://127.0.0.1:1"], "leave out the --vllm"),
        (["--vllm-url", "http://127.0.0.1:1", "--vllm-arg=-x"], "would do nothing"),
        (["--vllm-url", "http://h", "--vllm-python", sys.executable], "would do nothing"),
    ],
)
def test_engine_options_that_contradict_are_refused_before_anything_slow(
    arguments: list[str], word: str
) -> None:
    done = CliRunner().invoke(main, ["serve", *arguments])
    assert done.exit_code == 1
    assert word in done.stderr


def test_a_variable_that_names_vllm_for_other_runs_is_no_contradiction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARSIGHT_VLLM_PYTHON", sys.executable)
    done = CliRunner().invoke(main, ["serve", "--engine", "transformers", "--host", "no.such.host"])
    assert "cannot serve on no.such.host" in done.stderr  # past the options
