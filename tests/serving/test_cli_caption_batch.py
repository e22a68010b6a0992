"""`sparsight caption` over archives, tables and sinks, with many outputs a photograph."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from serving.cli.main import main
from tests.tiny_model import write_tar
from vlm.pipeline import Pipeline

RECIPE = {"name": "p", "fingerprint": "f" * 64, "edits": [{"op": "ablate", "concept": "dog"}]}


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> Any:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pipeline)
    return pipeline


@pytest.fixture(autouse=True)
def album(tmp_path: Path, photo: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photographs in the folder `album`, as album.tar, and listed in t.csv."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "album"
    folder.mkdir()
    files = {f"{i}.png": photo((i, 0, 0)) for i in range(3)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_tar(tmp_path / "album.tar", files)
    (tmp_path / "t.csv").write_text("id,image\n1,album/0.png\n2,album/1.png\n")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "p.json").write_text(json.dumps(RECIPE))
    other = {**RECIPE, "name": "o", "fingerprint": "e" * 64}
    (tmp_path / "other.json").write_text(json.dumps(other))
    return folder


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["caption", *arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize(
    ("arguments", "n"),
    [(["album"], 3), (["album.tar"], 3), (["t.csv"], 2), (["album/*.png", "t.csv"], 5)],
)
def test_every_kind_of_source_gives_one_line_a_photograph(arguments: list[str], n: int) -> None:
    assert run(*arguments).stdout.count("\n") == n


def test_a_list_may_come_on_standard_input() -> None:
    out = run("--list", "-", "--json", stdin="album/2.png\nalbum/0.png\n").stdout
    assert [json.loads(line)["path"] for line in out.splitlines()] == ["album/2.png", "album/0.png"]


def test_a_sweep_a_recipe_and_prompts_give_a_caption_each() -> None:
    asked = ["--sweep", "cat=0,1", "--recipe", "p.json", "--plain"]
    run("album", "--out", "o.jsonl", *asked, "--prompt", "who?", "--prompt", "where?")
    entry = lines("o.jsonl")[0]
    steerings = ["plain", "cat=0", "cat=1", "p"]
    assert [(each["prompt"], each["steering"]) for each in entry["captions"]] == [
        (prompt, name) for prompt in ("who?", "where?") for name in steerings
    ]
    assert entry["captions"][3]["caption"] == "1 photos, ablate dog, asked who?"
    assert [each["name"] for each in entry["recipe"]["steerings"]] == steerings


def test_a_recipe_of_another_model_is_resolved_again_when_asked() -> None:
    asked = ["--recipe", "other.json", "--recipe", "p.json", "--resolve-again", "--json"]
    entry = json.loads(run("album/0.png", *asked).stdout)
    assert [each["caption"].split(", asked")[0] for each in entry["captions"]] == [
        "1 photos, ablate dog"
    ] * 2
    uses = [each["receipt"]["recipes"] for each in entry["captions"]]
    assert [(use["name"], use["fingerprint"][0], use["edits"]) for (use,) in uses] == [
        ("o", "e", [0]),
        ("p", "f", [0]),
    ]


def test_one_recipe_is_one_caption_in_the_short_form_and_plain_may_be_beside_it() -> None:
    alone = json.loads(run("album/0.png", "--recipe", "p.json", "--json").stdout)
    assert alone["caption"].startswith("1 photos, ablate dog")
    beside = json.loads(run("album/0.png", "--steer", "cat=0", "--plain", "--json").stdout)
    assert [each["steering"] for each in beside["captions"]] == ["plain", "steer"]


def test_features_of_another_photograph_are_taken_or_the_photograph_is_refused(
    fake_model: Any,
) -> None:
    same = "1.png has no feature that this photograph lacks: both have the same code"
    assert same in run("album", "--steer-from", "album/1.png", code=1).stderr
    here = fake_model.encode

    def encode(images: Any) -> Any:
        codes = here(images)
        if images[0].sha256 == sha256(Path("album/1.png").read_bytes()).hexdigest():
            codes = replace(codes, index=codes.index.clone())
            codes.index[1] = 4  # the second feature of the global code is another one here
        return codes

    fake_model.encode = encode
    asked = ("--steer-from", "album/1.png", "--top", "3", "--json")
    entry, refused, _ = map(json.loads, run("album", *asked, code=1).stdout.splitlines())
    assert same in refused["error"]
    assert entry["caption"].startswith("1 photos, clamp #4")
    assert entry["receipt"]["recipes"][0]["name"] == "from 1.png"
    assert entry["receipt"]["steering"]["edits"] == [
        {"op": "clamp", "feature": 4, "value": 4.0, "unit": "raw"}
    ]


def test_edits_of_steer_come_first_in_every_steering() -> None:
    out = run("album/0.png", "--steer", "ghost=0", "--sweep", "cat=0,1", "--json").stdout
    captions = json.loads(out)["captions"]
    assert [each["caption"].split(", asked")[0] for each in captions] == [
        "1 photos, ablate ghost, ablate cat",
        "1 photos, ablate ghost, clamp cat",
    ]


def test_several_captions_stand_on_one_line_between_tabs() -> None:
    out = run("album/0.png", "--sweep", "cat=0,1").stdout
    assert out.count("\n") == 1 and out.count("\t") == 1


def test_all_sinks_are_written_in_one_run(album: Path) -> None:
    result = run(
        "album", "--out", "o.jsonl", "--parquet", "p", "--webdataset", "w",
        "--sidecar", "txt", "--sidecar", "xmp",
    )  # fmt: skip
    assert "3 done, 0 failed; o.jsonl" in result.stderr
    assert pyarrow.parquet.read_table("p").num_rows == 3
    assert sorted(path.name for path in album.iterdir()) == [
        f"{n}{ending}" for n in range(3) for ending in (".png", ".png.xmp", ".txt")
    ]
    assert Path("w/shard-00000.tar").exists()
    again = run("album", "--out", "o.jsonl", "--parquet", "p", "--webdataset", "w")
    assert "3 captions already" in again.stderr and "0 done, 0 failed" in again.stderr
    assert len(lines("o.jsonl")) == pyarrow.parquet.read_table("p").num_rows == 3


def test_sidecars_asked_for_later_are_made_up_for_and_those_that_cannot_be_are_told(
    album: Path, pipeline: Any
) -> None:
    run("album", "--out", "o.jsonl")
    pipeline.requests.clear()
    (album / "1.txt").write_text("my notes")
    result = run("album", "--out", "o.jsonl", "--sidecar", "txt", code=1)
    assert "Error: album/1.png: album/1.txt holds something else" in result.stderr
    assert pipeline.requests == []
    assert (album / "0.txt").read_text() == (album / "2.txt").read_text() != "my notes"
    assert len(lines("o.jsonl")) == 3


def test_failures_are_tried_again_or_skipped_as_asked(album: Path, pipeline: Any) -> None:
    good = (album / "1.png").read_bytes()
    (album / "1.png").write_bytes(b"broken")
    assert "2 done, 1 failed" in run("album", "--out", "o.jsonl", code=1).stderr
    (album / "1.png").write_bytes(good)
    pipeline.requests.clear()
    run("album", "--out", "o.jsonl", "--skip-failed")
    assert pipeline.requests == []
    run("album", "--out", "o.jsonl", "--retry-failed")
    assert len(pipeline.requests) == 1
    assert [line["path"] for line in lines("o.jsonl") if "error" not in line] == [
        f"album/{n}.png" for n in (0, 2, 1)
    ]


def test_shards_of_a_run_make_up_the_whole() -> None:
    for n in (1, 2, 3):
        run("album", "--shard", f"{n}/3", "--out", f"{n}.jsonl")
    found = [line["path"] for n in (1, 2, 3) for line in lines(f"{n}.jsonl")]
    assert sorted(found) == [f"album/{n}.png" for n in range(3)]


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        (["album", "--schema", "s.json"], "--json or --out", 2),
        (["album", "--schema", "s.json", "--json"], "s.json cannot be read", 1),
        (["album", "--schema", "t.csv", "--json"], "is no JSON", 1),
        (["album", "--schema", "list.json", "--json"], "a JSON schema is an object", 1),
        (["album", "--schema-prompt", "what?"], "goes with --schema", 2),
        (["album", "--ray-llms", "2"], "goes with --engine ray", 2),
        (["album", "--ray-llm-gpus", "1"], "goes with --engine ray", 2),
        (["album", "--engine", "ray", "--api", "http://a"], "take one", 2),
        (["album", "--engine", "ray", "--workers", "2"], "--workers", 2),
        (["album", "--api", "http://a", "--model", "m"], "--model", 2),
        (["album", "--api", "a:8000"], "write http://HOST:PORT", 1),
        (["album", "--parquet", "p"], "--parquet needs --out", 2),
        (["album", "--webdataset", "p"], "--webdataset needs --out", 2),
        (["album", "--sidecar", "txt"], "--sidecar needs --out", 2),
        (["album", "--no-caption"], "nothing is asked", 1),
        (["album", "--no-caption", "--codes", "--steer", "dog=0"], "--no-caption", 2),
        (["album", "--codes"], "--json or --out", 2),
        (["album", "--plain"], "--plain goes with", 2),
        (["album", "--resolve-again"], "goes with --recipe", 2),
        (["album", "--recipe", "other.json"], "was made for model eeee", 1),
        (["album", "--recipe", "p.json", "--recipe", "p.json"], "two steerings are called 'p'", 1),
        (["album", "--steer-from", "none.png"], "no such file", 1),
        (["album", "--steer-from", "album/0.png", "--top", "65"], "--top", 2),
        (["album", "--shard", "3/2"], "I/N", 2),
        (["album", "--shard", "x"], "I/N", 2),
        (["album", "--sweep", "cat=1"], "no sweep", 1),
        (["album", "--sweep", "cat=1,99"], "limit", 1),
        (["album", "--recipe", "none.json"], "cannot be read", 1),
        (["album", "--recipe", "t.csv"], "no JSON", 1),
        (["t.csv", "--column", "photo"], "it has id, image", 1),
        (["--list", "none.txt"], "none.txt: there is no such file", 1),
        (["none.csv"], "no such file", 1),
        (["-", "--list", "-"], "standard input", 2),
        ([], "PHOTO", 2),
    ],
)
def test_bad_calls_are_refused_in_words(arguments: list[str], word: str, code: int) -> None:
    result = run(*arguments, code=code)
    assert word in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("cut.zip", b"PK\x03\x04" + 100 * b"x", "damaged"),
        ("cut.tar", b"x" * 700, "damaged"),
        ("cut.parquet", b"PAR1" + 100 * b"x", "no readable parquet"),
        ("bad.png", b"x", "none of JPEG"),
    ],
)
def test_bad_files_are_failures_in_their_place_and_the_rest_go_on(
    name: str, content: bytes, word: str
) -> None:
    Path(name).write_bytes(content)
    result = run("album/0.png", name, "album/1.png", "--json", code=1)
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["error" in entry for entry in entries] == [False, True, False]
    assert word in entries[1]["error"] and f"Error: {name}: " in result.stderr
