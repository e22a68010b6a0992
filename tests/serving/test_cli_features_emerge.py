"""``sparsight features emerge``: the page's path on stdout, all else on stderr, misuse told."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.cli.main import main
from sparse_encoder.train import train_encoder
from tests.tiny_model import WORDS, png, write_shard, write_tiny_data


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a shard and a word list."""
    home = tmp_path_factory.mktemp("emerge")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSIGHT_CACHE", str(home / "cache"))
        write_tiny_data(home / "data")
        train_encoder("tiny", home / "data", home / "run", {"epochs": 20.0})
    write_shard(home / "a.tar", [(f"a{i}", png(i), {"captions": ["a dog"]}) for i in range(6)])
    (home / "words.txt").write_text("\n".join(WORDS))
    return home


def emerge(given: Path, out: Path, *more: str, **changed: str) -> tuple[int, str, str]:
    options = {"--images": str(given / "*.tar"), "--words": str(given / "words.txt"), **changed}
    flags = [part for pair in options.items() for part in pair]
    run = changed.pop("run", str(given / "run"))
    flags = [f for f in flags if f not in ("run", run)]
    result = CliRunner().invoke(
        main,
        ["features", "emerge", run, "--out", str(out), *flags, *more],
        env={"SPARSIGHT_CACHE": str(given / "cache")},
    )
    return result.exit_code, result.stdout, result.stderr


def test_the_page_is_written_and_its_path_printed(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = emerge(given, out, "--at-least", "1")
    assert (code, stdout) == (0, f"{out / 'index.html'}\n")
    assert "100 %: density" in stderr
    assert sorted(p.name for p in out.iterdir()) == ["emergence.json", "index.html", "pictures"]
    code, stdout, stderr = emerge(given, out)
    assert (code, stdout) == (1, "")
    assert "--force" in stderr
    assert emerge(given, out, "--force", "--no-pictures")[0] == 0
    assert not (out / "pictures").exists()


@pytest.mark.parametrize(
    ("changed", "exit_code", "words"),
    [
        ({"--images": "nothing-*.tar"}, 2, "no file matches"),
        ({"--words": "no-list.txt"}, 2, "does not exist"),
        ({"run": "no-run"}, 2, "does not exist"),
        ({"run": "data"}, 1, "no kept checkpoint"),
    ],
)
def test_misuse_is_told_in_a_line(
    given: Path, tmp_path: Path, changed: dict[str, str], exit_code: int, words: str
) -> None:
    if changed.get("run") == "data":
        changed = {"run": str(given / "data")}
    code, stdout, stderr = emerge(given, tmp_path / "out", **changed)
    assert (code, stdout) == (exit_code, "")
    assert words in stderr
    assert "Traceback" not in stderr
