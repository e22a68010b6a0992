"""What users and machines do wrong: pictures, texts, shards, addresses, checkpoints, disks, numbers."""

import json
import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.loop import PreTrainer, pretrain
from sparse_encoder.pretrain.pair_stream import Pair, PairStream
from sparse_encoder.pretrain.state import newest_checkpoint
from tests.sparse_encoder import test_image
from tests.sparse_encoder.test_image import animation, encoded, noise
from tests.tiny_model import WORDS, png, write_tar

PRESET = "vit-tiny-8x"
SETTINGS = {"samples": 32 * 16, "tracker": "", "save_every": 4, "log_every": 4, "warmup": 4}
# Every kind of picture that the decoder must refuse, by the table of its own test.
BAD_IMAGES = [
    (str(case.id), case.values[0])
    for case in test_image.test_a_bad_image_is_refused_in_words.pytestmark[0].args[1]
]
SOUND_IMAGES = {
    **{kind: encoded(noise(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")},
    "cmyk": encoded(noise(mode="CMYK"), "JPEG"),
    "grey": encoded(noise(mode="L"), "JPEG"),
    "clear": encoded(Image.new("RGBA", (40, 30), (9, 9, 9, 0))),
    "16-bit": encoded(Image.new("I;16", (9, 9), 40_000)),
    "one pixel": encoded(Image.new("RGB", (1, 1))),
    "a line": encoded(Image.new("RGB", (2_000, 1))),
    "animation": animation("WEBP"),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ten pictures with a word each."""
    files = {}
    for i, word in enumerate(WORDS):
        files[f"{i}.png"], files[f"{i}.txt"] = png(i), f"a photo of a {word}".encode()
    return [str(write_tar(tmp_path_factory.mktemp("shards") / "a.tar", files))]


def key_of(pair: Pair) -> str:
    return pair.key


def pair_of(pair: Pair) -> Pair:
    return pair


def test_every_kind_of_bad_picture_is_left_out_by_name(
    shards: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(BAD_IMAGES) >= 20
    files = {}
    for i, (_, data) in enumerate(BAD_IMAGES):
        files[f"bad{i}.jpg"], files[f"bad{i}.txt"] = data, b"a photo"
    stream = PairStream(
        [*shards, str(write_tar(tmp_path / "bad.tar", files))], key_of, seed=0, buffer=1
    )
    with caplog.at_level(logging.WARNING):
        keys = set(islice(stream, 40))
    assert keys == {str(i) for i in range(10)}
    for i, (kind, _) in enumerate(BAD_IMAGES):
        assert f"bad{i}: " in caplog.text, kind


def test_every_kind_of_sound_picture_trains(tmp_path: Path) -> None:
    files = {}
    for i, data in enumerate(SOUND_IMAGES.values()):
        files[f"{i}.jpg"], files[f"{i}.txt"] = data, b"a photo"
    stream = PairStream([str(write_tar(tmp_path / "a.tar", files))], pair_of, seed=0, buffer=1)
    pairs = list(islice(stream, len(SOUND_IMAGES)))
    assert {pair.key for pair in pairs} == {str(i) for i in range(len(SOUND_IMAGES))}
    assert {pair.image.mode for pair in pairs} == {"RGB"}
    assert set(stream.skipped.totals().values()) == {0}
    settings = {**SETTINGS, "samples": 64, "crop": 0.3, "flip": True}
    assert len(pretrain(PRESET, [str(tmp_path / "a.tar")], tmp_path / "run", settings)) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("txt", b""),
        ("txt", b"\xff\xfe\x00"),
        ("txt", "café".encode("latin-1")),
        ("json", b""),
        ("json", b"null"),
        ("json", b'"a photo"'),
        ("json", b'{"captions": "a photo"}'),
        ("json", b'{"captions": ["\\ud83d"]}'),
        ("json", '{"captions": ["café"]}'.encode("latin-1")),
        ("json", b'{"captions": ["", " "], "label": " "}'),
        ("json", b'{"label": 7}'),
        ("json", b'{"label": null}'),
        ("json", b"[" * 3000),
    ],
)
def test_a_text_that_says_nothing_or_cannot_be_read_is_left_out(
    shards: list[str], tmp_path: Path, name: str, text: bytes
) -> None:
    bad = write_tar(tmp_path / "bad.tar", {"x.png": png(0), f"x.{name}": text})
    stream = PairStream([*shards, str(bad)], key_of, seed=0, buffer=1)
    assert "x" not in set(islice(stream, 40))
    assert stream.skipped.totals()["text"] > 0


class _Server(BaseHTTPRequestHandler):
    """Names a length that it does not send: the body ends half way."""

    body = b""

    def do_GET(self) -> None:
        if self.path == "/none.tar":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        half = self.path == "/half.tar"
        self.wfile.write(self.body[: len(self.body) // 2] if half else self.body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(shards: list[str]) -> Iterator[str]:
    _Server.body = Path(shards[0]).read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # webdataset's pipe, not awaited
@pytest.mark.parametrize(("path", "counted"), [("whole", False), ("half", True), ("none", True)])
def test_an_address_is_read_and_one_that_dies_half_way_is_left_out_and_counted(
    shards: list[str], tmp_path: Path, address: str, path: str, counted: bool
) -> None:
    other = str(write_tar(tmp_path / "b.tar", {"own.png": png(0), "own.txt": b"dog"}))
    stream = PairStream([f"{address}/{path}.tar", other], key_of, seed=0, buffer=1)
    keys = set(islice(stream, 60))
    assert "own" in keys
    expected = {"whole": 10, "half": 5, "none": 0}[path]
    assert abs(len(keys - {"own"}) - expected) <= 1
    assert (stream.skipped.totals()["shard"] > 0) == counted


def test_a_checkpoint_of_another_width_is_refused(shards: list[str], tmp_path: Path) -> None:
    settings = {**SETTINGS, "samples": 32 * 2}
    pretrain(PRESET, shards, tmp_path, settings)
    with pytest.raises(SparsightError, match="model differ"):
        pretrain(PRESET, shards, tmp_path, {**settings, "model.features": 64})


def test_a_start_whose_weights_have_another_width_than_its_config_is_refused(
    shards: list[str], tmp_path: Path
) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision = {**shape, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    words = {**shape, "num_attention_heads": 2, "vocab_size": 300, "max_position_embeddings": 32}
    config = CLIPModel.config_class(vision_config=vision, text_config=words, projection_dim=16)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    start = {"start_from": str(tmp_path / "clip"), "model.text.tokenizer": "bytes"}
    pretrain(PRESET, shards, tmp_path / "sound", {**SETTINGS, "samples": 32, **start})
    file = tmp_path / "clip" / "config.json"
    changed = json.loads(file.read_text())
    changed["vision_config"]["hidden_size"] = 64
    file.write_text(json.dumps(changed))
    with pytest.raises(SparsightError, match="clip") as caught:
        pretrain(PRESET, shards, tmp_path / "wide", {**SETTINGS, "samples": 32, **start})
    assert caught.value.param == "source"


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_no_number_stops_with_the_pairs_and_keeps_the_last_weights(
    shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    import sparse_encoder.pretrain.loop as module

    real, n_steps = module.backward_whole_batch, [0]

    def breaking(sides: Any, *rest: Any, **named: Any) -> torch.Tensor:
        n_steps[0] += 1
        value = real(sides, *rest, **named)
        if n_steps[0] < 10:
            return value
        if broken == "loss":
            return value * torch.nan
        next(sides[0].parameters()).grad[0] = torch.inf
        return value

    monkeypatch.setattr(module, "backward_whole_batch", breaking)
    settings = {**SETTINGS, "clip_norm": 0.0 if broken == "gradient" else 1.0}
    with pytest.raises(SparsightError, match=f"{broken} is .* at step 9"):
        pretrain(PRESET, shards, tmp_path, settings)
    listed = json.loads((tmp_path / "bad-batch-rank0.json").read_text())
    assert listed["step"] == 9
    assert len(listed["keys"]) == 32
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000008"
    weights = list(newest.glob("*.safetensors"))
    assert weights
    monkeypatch.undo()
    assert len(pretrain(PRESET, shards, tmp_path, settings)) == 16  # and it goes on from there


@pytest.mark.parametrize("n_bytes", [20_000, 200_000])
def test_a_full_disk_leaves_the_previous_checkpoint(
    shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    """Files may not grow beyond `n_bytes` from step 8 on: each library fails in its own way."""
    step, limits = PreTrainer.step, resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(self: PreTrainer, batch: Any) -> Any:
        if self.state.step == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        return step(self, batch)

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(PreTrainer, "step", filling)
    try:
        with pytest.raises(SparsightError, match="free some space"):
            pretrain(PRESET, shards, tmp_path, SETTINGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000005"  # that of 30 %
    assert not (tmp_path / "checkpoints" / "part").exists()
    monkeypatch.undo()
    assert len(pretrain(PRESET, shards, tmp_path, SETTINGS)) == 16
