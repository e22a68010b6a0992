"""`sparsight features build` on bad input: it works, or says in words why not, and never breaks."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from serving.cli.main import main
from sparse_encoder.atlas import TABLE_FILE, FeatureAtlas
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.features.state import BuildState
from tests.tiny_model import png, write_shard

N_FEATURES = 16
SAID = ("A dog .", "a cat", "two red cars", "ein Hündchen", "собака")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny model, shards and word lists, in which the commands run."""
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    a_model(tmp_path / "model", seed=0)
    photos = [(f"p{i}", png(i), {"captions": [SAID[i % 5]]}) for i in range(20)]
    write_shard(tmp_path / "good.tar", photos)
    write_shard(tmp_path / "bare.tar", [(key, image, {}) for key, image, _ in photos])
    write_shard(tmp_path / "blank.tar", [("p0", b"no picture", {"captions": ["a dog"]})])
    (tmp_path / "broken.tar").write_text("this is no archive at all\n" * 100)
    (tmp_path / "nothing.tar").write_bytes(b"")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "good.tar").read_bytes()[:5000])
    (tmp_path / "words.txt").write_text("dog\ncat\ncar\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blanks.txt").write_text("\n  \n!?\n")
    (tmp_path / "long.txt").write_text("x" * 10_000 + "\n")
    (tmp_path / "long-and-dog.txt").write_text("x" * 10_000 + "\ndog\n")
    (tmp_path / "twice.txt").write_text("dog\nDog\n dog \ndogs\ncat\n")
    (tmp_path / "german.txt").write_text("Hündchen\nсобака\nKatze\n")
    (tmp_path / "latin.txt").write_bytes("Hündchen\n".encode("latin-1"))
    return tmp_path


def a_model(folder: Path, seed: int) -> None:
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = SparseEncoder.build(EncoderConfig(N_FEATURES, "tiny", "tiny"))
    for head in (encoder.image_head, encoder.text_head):
        torch.nn.init.zeros_(head.bias)
    encoder.save_heads(folder)
    config = {"name": "tiny", "encoder": encoder.config_json(), "llm": "tiny"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter").mkdir()
    # Only their hashes count: a build opens no language model.
    for name in ("projector.safetensors", "adapter/adapter_config.json"):
        (folder / name).write_bytes(b"-")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"-")


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["features", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output and "unexpected" not in result.output
    return result


def build(*arguments: str, code: int = 0, images: str = "good.tar") -> Result:
    given = ["build", "model", "--images", images, "--embedding", "trunk", "--only-words"]
    return run(*given, *arguments, code=code)


def with_words(words: str) -> tuple[str, ...]:
    return ("--words", words)


@pytest.mark.parametrize(
    ("arguments", "images", "words", "code"),
    [
        (with_words("empty.txt"), "good.tar", "holds no word among its 0 lines", 1),
        (with_words("blanks.txt"), "good.tar", "holds no word among its 3 lines", 1),
        (with_words("long.txt"), "good.tar", "at most 60 characters", 1),
        (with_words("latin.txt"), "good.tar", "cannot read the word list latin.txt", 1),
        (with_words("none.txt"), "good.tar", "none.txt", 2),
        ((), "good.tar", "--only-words needs a list", 2),
        (with_words("words.txt"), "train-*.tar", "no file matches 'train-*.tar'", 2),
        (with_words("words.txt"), "model", "cannot read model", 1),
        (with_words("words.txt"), "broken.tar", "broken.tar is no tar file", 1),
        (with_words("words.txt"), "nothing.tar", "nothing.tar is no tar file", 1),
        (with_words("words.txt"), "words.txt", "words.txt is no tar file", 1),
        (with_words("words.txt"), "blank.tar", "no readable photograph in 1 shards", 1),
        ((*with_words("words.txt"), "--test-images", "t*.tar"), "good.tar", "--test-images", 2),
        ((*with_words("words.txt"), "--test-images", "broken.tar"), "good.tar", "no tar file", 1),
        ((*with_words("words.txt"), "--top-images", "0"), "good.tar", "--top-images", 2),
        ((*with_words("words.txt"), "--out", "words.txt"), "good.tar", "words.txt", 2),
        ((*with_words("words.txt"), "--embedding", "none"), "good.tar", "none", 1),
    ],
)
def test_a_build_that_cannot_be_made_is_refused_and_leaves_no_atlas(
    home: Path, arguments: tuple[str, ...], images: str, words: str, code: int
) -> None:
    result = build(*arguments, images=images, code=code)
    assert words in result.stderr
    assert result.stdout == ""
    assert not list(home.rglob(TABLE_FILE))


def test_captions_that_are_not_utf8_are_refused(home: Path) -> None:
    given = ["build", "model", "--images", "good.tar", "--embedding", "trunk"]
    result = run(*given, "--words", "words.txt", "--captions", "latin.txt", code=1)
    assert "cannot read the captions latin.txt" in result.stderr and "UTF-8" in result.stderr


@pytest.mark.parametrize(
    ("words", "images", "names"),
    [
        ("twice.txt", "good.tar", {"dog", "cat"}),
        ("long-and-dog.txt", "good.tar", {"dog"}),
        ("german.txt", "good.tar", {"hündchen", "собака", "katze"}),
        ("words.txt", "bare.tar", {"dog", "cat", "car"}),
        ("words.txt", "cut.tar", {"dog", "cat", "car"}),
    ],
)
def test_a_build_on_odd_but_honest_input_works(
    home: Path, words: str, images: str, names: set[str]
) -> None:
    assert build("--words", words, images=images).stdout == "model/features\n"
    atlas = FeatureAtlas.load(home / "model" / "features")
    assert atlas.vocabulary == names
    assert {name for name in atlas.names if name} <= names
    if images == "bare.tar":
        assert set(atlas.trust or []) <= {"", "unverified"}
    run("search", "dog", "--model", "model")


def test_the_atlas_of_another_model_is_refused_by_every_command_that_reads_it(home: Path) -> None:
    build("--words", "words.txt")
    a_model(home / "other", seed=1)
    (home / "model" / "features").rename(home / "other" / "features")
    for arguments in (
        ("search", "dog", "--model", "other"),
        ("show", "1", "--model", "other"),
        ("contrast", "--on", ".", "--model", "other"),
        ("report", "other", "--out", "pages"),
        ("export", "other", "--out", "export"),
    ):
        result = run(*arguments, code=1)
        assert "was made for model" in result.stderr and "build it again" in result.stderr
        assert result.stdout == ""


def test_a_half_written_atlas_is_refused(home: Path) -> None:
    build("--words", "words.txt")
    table = home / "model" / "features" / TABLE_FILE
    table.write_bytes(table.read_bytes()[:300])
    assert "no readable feature atlas" in run("search", "dog", "--model", "model", code=1).stderr


def test_a_disk_that_is_full_at_the_end_leaves_the_old_atlas(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("--words", "words.txt")
    features = home / "model" / "features"
    old = {path.name: path.read_bytes() for path in features.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sparse_encoder.features.build.pq.write_table", full)
        result = build("--words", "german.txt", "--force", code=1)
    assert "cannot write" in result.stderr and "no space left" in result.stderr
    assert {path.name: path.read_bytes() for path in features.iterdir() if path.is_file()} == old
    assert build("--words", "german.txt", "--force").stdout == "model/features\n"


def test_a_build_that_is_killed_leaves_the_old_atlas_and_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("--words", "words.txt")
    features = home / "model" / "features"
    old = {path.name: path.read_bytes() for path in features.iterdir()}
    put = BuildState.put

    def killed(state: BuildState, name: str, arrays: object) -> None:
        if name == "trust":
            raise KeyboardInterrupt
        put(state, name, arrays)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(BuildState, "put", killed)
        build("--words", "twice.txt", "--force", code=1)
    left = {path.name: path.read_bytes() for path in features.iterdir() if path.is_file()}
    assert left == old
    run("search", "dog", "--model", "model")

    def again(*_: object) -> None:
        raise AssertionError("images are measured again")

    monkeypatch.setattr("sparse_encoder.features.build.measure_images", again)
    build("--words", "twice.txt", "--force")
    assert [path.name for path in features.iterdir() if path.is_dir()] == []
    assert (features / TABLE_FILE).read_bytes() != old[TABLE_FILE]
