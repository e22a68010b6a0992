"""The same captions from a Ray cluster, of which a machine is lost on the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.batch.cluster.connect import Cluster, connected, ray_library
from serving.cli.main import main
from sparse_encoder.errors import SparsightError
from sparse_encoder.train import train_encoder
from tests.tiny_model import png, write_tiny_data
from vlm.train_run import train_vlm

ROOT = Path(__file__).parents[3]
N_PHOTOS = 90
ASKED = ("--codes", "--steer", "dog*0.5", "--plain", "--batch-size", "2", "--max-tokens", "16")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk, as other machines need it."""
    home = tmp_path_factory.mktemp("model")
    write_tiny_data(home / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(home / "cache"))
        train_encoder("tiny", home / "data", home / "encoder", {"epochs": 2.0})
        train_vlm("tiny", home / "data", home / "m", {"steps": 2}, encoder_folder=home / "encoder")
    return home / "m"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some bad, some with the bytes of another, one whose name is no UTF-8."""
    folder = tmp_path_factory.mktemp("photographs")
    for n in range(N_PHOTOS):
        data = b"bad" if n % 10 == 9 else png(n // 2 if n % 7 == 3 else n)
        (folder / f"{n:03d}.png").write_bytes(data)
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write(png(1000))
    return folder


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A running two_workers.py and the address that it said."""
    pytest.importorskip("ray", reason="the extra sparsight[ray] is not installed")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("two_workers.py"))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield process, heard(process, "address ")
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def heard(process: subprocess.Popen[str], word: str) -> str:
    """The rest of the next line that begins with this word; Ray has a say there, too."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise AssertionError(f"it ended before it said {word!r}")


def caption(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "serving.cli.main", "caption", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1500)  # seven processes import torch, which a busy machine takes its time for
def test_a_cluster_that_loses_a_machine_writes_the_file_of_an_unbroken_local_run(
    cluster: Any, model: Path, photographs: Path, tmp_path: Path
) -> None:
    workers, address = cluster
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    common = (str(photographs), "--model", str(model), *ASKED)
    local = CliRunner().invoke(main, ["caption", *common, "--workers", "0", "--out", str(here)])
    assert local.exit_code == 1 and "82 done" in local.stderr, local.stderr
    actors = ("--ray-encoders", "1", "--ray-llms", "2", "--ray-address", address)
    run = caption(*common, "--engine", "ray", *actors, "--out", str(there))
    try:
        while run.poll() is None and not (there.exists() and there.stat().st_size):
            time.sleep(0.01)
        n_before = there.read_bytes().count(b"\n") if there.exists() else 0
        workers.stdin.write("kill\n")
        workers.stdin.flush()
        n_lost = int(heard(workers, "lost "))
        n_at_kill = there.read_bytes().count(b"\n") if there.exists() else 0
        _, said = run.communicate(timeout=1000)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 1, said  # of the bad photographs
    assert 0 < n_before <= n_at_kill < N_PHOTOS and n_lost >= 1, (n_at_kill, n_lost)
    assert there.read_bytes() == here.read_bytes()
    lines = [json.loads(line) for line in there.read_text().splitlines()]
    assert len({line["path"] for line in lines}) == len(lines) == N_PHOTOS + 1
    assert sum("duplicate_of" in line for line in lines) > 2


def test_without_ray_the_extra_is_named(
    album: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(main, ["caption", "album", "--engine", "ray"])
    assert result.exit_code == 1
    assert "pip install 'sparsight[ray]'" in result.stderr and "Traceback" not in result.output


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own settings
def test_a_cluster_that_is_not_there_or_too_small_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="the extra sparsight[ray] is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def nobody(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", nobody)
    refused = pytest.raises(SparsightError, match="no Ray cluster at auto: Could not find")
    with refused, connected(Cluster("auto"), lambda _: None):
        pass
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    said: list[str] = []
    refused = pytest.raises(SparsightError, match="take 4 GPUs, this machine has 0")
    with refused, connected(Cluster(speakers=1, speaker_gpus=4), said.append):
        pass
    with connected(Cluster("auto", speakers=8), said.append):
        assert "the cluster has 2" in said[0] and "as machines join" in said[0]


def test_ray_counts_no_users_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SparsightError):
        ray_library()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
