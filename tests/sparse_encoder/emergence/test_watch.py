"""Small runs watched from end to end: loaded as trained, followed, drawn, or refused in words."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict_saver import save

from sparse_encoder.codes import Codes
from sparse_encoder.emergence.page import page_order, refuse_occupied, to_json, write_emergence
from sparse_encoder.emergence.stage_codes import StageCodes
from sparse_encoder.emergence.stages import find_stages
from sparse_encoder.emergence.watch import Emergence, WatchSettings, watch
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.features.state import BuildState
from sparse_encoder.pretrain.loop import pretrain
from sparse_encoder.towers.hub import load
from sparse_encoder.train import train_encoder
from tests.tiny_model import WORDS, photo, png, write_shard, write_tar, write_tiny_data

SETTINGS = WatchSettings(top_images=3, at_least=2)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for name in ("a", "b"):
        rows = [(f"{name}{i}", png(i), {"captions": [f"a {WORDS[i % 10]}"]}) for i in range(12)]
        write_shard(folder / f"{name}.tar", list(rows))
    write_shard(folder / "c.tar", [("broken", b"no image", {"captions": ["a cat"]})])
    return [folder / f"{name}.tar" for name in ("a", "c", "b")]


@pytest.fixture(scope="module")
def heads_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("heads")
    write_tiny_data(data)
    train_encoder("tiny", data, out, {"epochs": 40.0, "lr": 3e-2})
    return out


@pytest.fixture(scope="module")
def towers_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    files = {}
    for i, word in enumerate(WORDS):
        files[f"{i}.png"], files[f"{i}.txt"] = png(i), f"a photo of a {word}".encode()
    pairs = str(write_tar(folder / "0.tar", files))
    settings = {"samples": 32 * 6, "tracker": "", "warmup": 2, "save_every": 3, "ema": 0.5}
    pretrain("vit-tiny-8x", [pairs], folder / "run", settings)
    return folder / "run"


@pytest.fixture(scope="module")
def watched(
    heads_run: Path, shards: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Emergence:
    out = tmp_path_factory.mktemp("watched")
    return watch(find_stages(heads_run), shards, WORDS, out, run="tiny", settings=SETTINGS)[0]


def test_the_end_matches_itself_and_has_changed_nothing(watched: Emergence) -> None:
    last = watched.stages[-1]
    steady = ~np.isnan(last.own)
    assert steady.sum() > 10
    assert last.own[steady] == pytest.approx(1.0, abs=1e-4)
    assert (last.best_index[steady] <= np.flatnonzero(steady)).all()  # the lowest of equal ones
    assert last.count("changed") == 0
    assert last.modality_distance == 0
    assert [stage.share for stage in watched.stages][-1] == 1.0
    assert len(watched.stages) >= 4


def test_a_stage_is_measured_as_its_encoder_says(
    heads_run: Path, watched: Emergence, shards: list[Path]
) -> None:
    folder = sorted((heads_run / "checkpoints").iterdir())[0]
    encoder = SparseEncoder.load(folder)
    codes = Codes.cat([encoder.encode_images([photo(i)]) for i in [*range(12), *range(12)]])
    code = codes.dense()[:: 1 + codes.n_cells]
    first = watched.stages[0]
    assert watched.keys == [f"{name}{i}" for name in "ab" for i in range(12)]
    np.testing.assert_allclose(first.density, (code > 0).float().mean(0).numpy(), atol=0.05)
    assert first.l0 == pytest.approx(float((code > 0).sum(1).float().mean()), rel=0.05)
    feature = int(code.sum(0).argmax())
    # Each photograph is in both shards, so the two strongest are one photograph.
    best = int(code[:, feature].argmax()) % 12
    assert {int(i) % 12 for i in first.top_image[feature][:2]} == {best}


def test_the_last_stage_of_a_pretraining_run_is_the_model_it_exported(towers_run: Path) -> None:
    exported = load(towers_run / "model")
    found = find_stages(towers_run)[-1].load()
    texts = ["a photo of a dog", "snow"]
    codes = found.text_codes(found.text_vectors(texts))
    torch.testing.assert_close(codes, exported.encode_texts(texts))


def test_a_pretraining_run_without_average_or_export_and_one_shared_out_load_too(
    towers_run: Path, tmp_path: Path
) -> None:
    exported = load(towers_run / "model")
    run = tmp_path / "run"
    shutil.copytree(towers_run / "checkpoints", run / "checkpoints")
    last, before = (stage.folder for stage in reversed(find_stages(run)[-2:]))
    for folder in (last, before):
        state = json.loads((folder / "run.json").read_text())
        state["run"]["ema"] = 0.0
        (folder / "run.json").write_text(json.dumps(state))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        state_of_run = {"weights": exported.state_dict(), "moments": {}}
        save(state_of_run, checkpoint_id=before / "shards", no_dist=True)
    plain, shared = (stage.load() for stage in reversed(find_stages(run)[-2:]))
    assert all(
        torch.equal(tensor, shared.model.state_dict()[name])  # type: ignore[attr-defined]
        for name, tensor in exported.state_dict().items()
    )
    weight = load_file(last / "model_2.safetensors")["text_head.weight"]
    assert torch.equal(plain.model.text_head.weight, weight)  # type: ignore[attr-defined]


def test_a_pretraining_run_is_watched(towers_run: Path, shards: list[Path], tmp_path: Path) -> None:
    stages = find_stages(towers_run)
    emergence, state = watch(stages, shards, WORDS, tmp_path, run="t", settings=SETTINGS)
    assert emergence.n_features == 128
    assert len(emergence.keys) == 24
    assert emergence.stages[-1].names[0] != []
    state.remove()


def test_a_watch_that_was_stopped_goes_on_to_the_same_page(
    heads_run: Path, shards: list[Path], watched: Emergence, tmp_path: Path
) -> None:
    stages = find_stages(heads_run)
    seen: list[str] = []

    def dying(step: str, done: int, of: int) -> None:
        seen.append(step)
        if step.startswith("matches"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(stages, shards, WORDS, tmp_path, run="tiny", settings=SETTINGS, told=dying)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("codes-*.npz")}
    assert len(made) == len(stages) * len(shards)
    refuse_occupied(tmp_path, False)  # a half-done watch is no page
    again = watch(stages, shards, WORDS, tmp_path, run="tiny", settings=SETTINGS)[0]
    assert to_json(again) == to_json(watched)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("codes-*.npz")} == made


def test_the_page_shows_what_the_json_holds(
    watched: Emergence, shards: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "page"
    page = write_emergence(watched, shards, out, limit=5)
    data = json.loads((out / "emergence.json").read_text())
    assert data == json.loads(json.dumps(to_json(watched)))
    assert len(data["features"]) == watched.n_features
    text = page.read_text()
    inside = json.loads(
        text.split('type="application/json">')[1].split("</script>")[0].replace("\\u003c", "<")
    )
    assert [f["feature"] for f in inside["features"]] == page_order(watched)[:5]
    shown = {p for f in inside["features"] for s in f["stages"] for p, _ in s["pictures"]}
    assert {int(p.stem) for p in (out / "pictures").iterdir()} == shown
    assert "%" not in {w for w in ("%STAGES%", "%PLOTS%", "%DATA%", "%SAME%") if w in text}
    assert "http" not in text
    refused(lambda: refuse_occupied(out, False), "--force")
    refuse_occupied(out, True)
    write_emergence(watched, shards, out, limit=5, pictures=False)
    assert not (out / "pictures").exists()
    assert '"pictures":[]' in page.read_text()


def test_a_name_cannot_end_the_pages_script(
    watched: Emergence, shards: list[Path], tmp_path: Path
) -> None:
    feature = page_order(watched)[0]
    watched.stages[0].names[feature].append("</script><b>%DATA%")
    try:
        text = write_emergence(watched, shards, tmp_path / "page", limit=1).read_text()
    finally:
        watched.stages[0].names[feature].pop()
    assert text.count("</script>") == 2
    assert "<b>%DATA%" not in text


def refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(SparsightError, match=words):
        call()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ("none kept", "holds no kept checkpoint"),
        ("trained before", "trained before heads were kept"),
        ("one kept", "one kept checkpoint"),
        ("other width", "32 features, the stage before it 64"),
        ("no weights", "neither encoder.safetensors nor run.json"),
        ("no words", "word list is empty"),
        ("no photograph", "no readable photograph"),
        ("dense", "dense"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_words(
    heads_run: Path, shards: list[Path], tmp_path: Path, break_it: str, words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(heads_run, run)
    folders = sorted((run / "checkpoints").iterdir())
    images, listed = shards, WORDS
    if break_it in ("none kept", "trained before"):
        shutil.rmtree(run / "checkpoints")
        if break_it == "none kept":
            (run / "checkpoint.pt").unlink()
    elif break_it == "one kept":
        for folder in folders[1:]:
            shutil.rmtree(folder)
    elif break_it == "other width":
        config = json.loads((folders[1] / "config.json").read_text())
        config["encoder"]["features"] = 32
        (folders[1] / "config.json").write_text(json.dumps(config))
        heads = load_file(folders[1] / "encoder.safetensors")
        halved = {name: tensor[:32].contiguous() for name, tensor in heads.items()}
        save_file(halved, folders[1] / "encoder.safetensors")
    elif break_it == "no weights":
        (folders[0] / "encoder.safetensors").unlink()
    elif break_it == "no words":
        listed = ["", "  "]
    elif break_it == "no photograph":
        images = [shards[1]]
    elif break_it == "dense":
        config = json.loads((folders[0] / "config.json").read_text())
        config["encoder"]["activation"] = "identity"
        (folders[0] / "config.json").write_text(json.dumps(config))
    refused(lambda: watch(find_stages(run), images, listed, tmp_path / "out", run="x"), words)


@pytest.mark.parametrize("file", ["run.json", "custom_checkpoint_0.pkl"])
def test_a_damaged_checkpoint_is_refused_by_its_name(
    towers_run: Path, tmp_path: Path, file: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(towers_run, run)
    stage = find_stages(run)[0]
    (stage.folder / file).write_bytes(b"{")
    refused(stage.load, f"{stage.folder.name} cannot be read")


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    refused(lambda: refuse_occupied(tmp_path, True), "other files")
    refused(lambda: refuse_occupied(tmp_path / "thesis.txt", True), "is a file")
    refused(lambda: WatchSettings(at_least=0), "at_least is 0")


def test_batches_of_a_stage_are_the_images_in_order(
    heads_run: Path, shards: list[Path], tmp_path: Path
) -> None:
    stage = find_stages(heads_run)[0]
    codes = StageCodes(stage, BuildState(tmp_path, "x"), shards, stage.load())
    assert sum(batch.n_images for batch in codes.batches()) == 24
