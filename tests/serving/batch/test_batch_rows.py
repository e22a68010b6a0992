"""Captions of blocks, as engines of rows ask for them."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from serving.batch.plan import Plan
from serving.batch.rows import CaptionRows
from serving.cli.main import main
from vlm.pipeline import Pipeline

ROOT = Path(__file__).parents[3]


def test_every_row_comes_back_in_order_with_captions_or_an_error(
    album: Path, pipeline: Any, plan: Plan, pictures: dict[str, bytes]
) -> None:
    paths = ["album/0.png", "album/gone.png", "in-memory", "album/0.png"]
    data = [None, None, pictures["2.png"], None]
    out = CaptionRows(pipeline, plan, batch_size=3)({"path": paths, "bytes": data})
    assert out["path"] == paths
    assert [error is None for error in out["error"]] == [True, False, True, True]
    assert [captions is None for captions in out["captions"]] == [False, True, False, False]
    assert out["captions"][0] == out["captions"][3]
    assert out["sha256"][0] == out["sha256"][3] != out["sha256"][2]
    assert all(len(column) == 4 for column in out.values())


def test_a_block_of_paths_alone_is_read_from_them(album: Path, pipeline: Any, plan: Plan) -> None:
    out = CaptionRows(pipeline, plan)({"path": ["album/0.png"]})
    assert out["error"] == [None]


def test_an_actor_loads_its_model_by_name(
    album: Path, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "load", lambda model: pipeline if model == "m" else None)
    out = CaptionRows.load("m", batch_size=2)({"path": ["album/1.png"]})
    assert out["captions"][0][0].startswith("1 photos, no edits")


def test_the_ray_script_wires_folder_actor_and_parquet(
    album: Path, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a stand-in that does to blocks what Ray Data documents; Ray itself is not run."""
    monkeypatch.setattr(Pipeline, "load", lambda _: pipeline)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(data=StandInData()))
    monkeypatch.setattr(sys, "argv", ["ray_captions.py", "album", "out", "3"])
    runpy.run_path(str(ROOT / "examples" / "batch" / "ray_captions.py"), run_name="__main__")
    rows = pyarrow.parquet.read_table("out").to_pylist()
    assert [row["path"] for row in rows] == [f"album/{n}.png" for n in range(3)]
    assert all(row["error"] is None and len(row["captions"]) == 1 for row in rows)


class StandInData:
    """One block of everything."""

    def __init__(self, block: dict[str, Any] | None = None) -> None:
        self.block = block or {}

    def read_binary_files(self, folder: str, *, include_paths: bool) -> "StandInData":
        assert include_paths
        paths = sorted(map(str, Path(folder).iterdir()))
        data = np.array([Path(path).read_bytes() for path in paths], dtype=object)
        return StandInData({"bytes": data, "path": np.array(paths, dtype=object)})

    def map_batches(self, actor: Any, **options: Any) -> "StandInData":
        assert set(options) <= {"batch_size", "concurrency", "num_cpus"}
        assert options["concurrency"] == 3
        return StandInData(actor()(self.block))

    def write_parquet(self, folder: str) -> None:
        Path(folder).mkdir()
        pyarrow.parquet.write_table(pyarrow.table(self.block), f"{folder}/0.parquet")


def test_the_job_array_gives_each_task_its_shard_and_its_file(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "sparsight"
    fake.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "batch" / "slurm.sh"), "my photos", "out"],
        env={
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "16",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words == ["caption", "my photos", "--shard", "3/16", "--out", "out/captions-3.jsonl"]
    command = main.commands["caption"]
    command.make_parser(
        click.Context(command, parent=click.Context(main, **main.context_settings))
    ).parse_args(words[1:])
