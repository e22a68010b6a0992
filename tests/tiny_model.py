"""A whole pipeline on random weights, and small webdataset shards to train one."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sparse_encoder.atlas_build import build_atlas
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.image import DecodedImage, decode_image
from vlm.language_model import tiny_language_model, tiny_tokenizer
from vlm.pipeline import Pipeline
from vlm.projector import Projector, ProjectorConfig

WORDS = ["dog", "cat", "beach", "red", "ball", "tree", "car", "man", "woman", "snow"]


def png(seed: int, size: tuple[int, int] = (24, 20)) -> bytes:
    """A random photograph, as a PNG file's bytes."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def photo(seed: int) -> DecodedImage:
    return decode_image(png(seed))


def tiny_pipeline() -> Pipeline:
    """64 features, 9 cells, a two-layer language model; equal at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SparseEncoder.build(EncoderConfig(64, "tiny", "tiny"))
        # Zero bias: a tiny code must not be empty by chance.
        for head in (encoder.image_head, encoder.text_head):
            torch.nn.init.zeros_(head.bias)
        encoder.requires_grad_(False)
        projector = Projector(ProjectorConfig(64, 32, grid=(3, 3), groups=(3, 3)))
        torch.nn.init.normal_(projector.second.weight, std=0.1)
        torch.nn.init.normal_(projector.first, std=0.3)
    codes = [encoder.encode_images([photo(i) for i in range(40)])]
    atlas = build_atlas(encoder, codes, WORDS, fingerprint="f" * 64)
    # Random features are dense; concepts need some below the 10 % that they may have.
    atlas.density[:32] = np.minimum(atlas.density[:32], 0.05)
    llm, tokenizer = tiny_language_model(), tiny_tokenizer()
    return Pipeline("tiny", "f" * 64, encoder, atlas, projector.eval(), llm, tokenizer)


def write_shard(path: Path, samples: list[tuple[str, bytes, object]]) -> None:
    """A webdataset shard of (key, image bytes, meta); meta given as bytes is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, image, meta in samples:
            text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
            for name, content in ((f"{key}.jpg", image), (f"{key}.json", text)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def write_tiny_data(data: Path) -> None:
    """Every file that training looks for, each with a handful of samples."""
    import gzip

    things = ["dog", "cat", "car", "ball"]
    for name in ("coco", "flickr8k"):
        samples = [
            (f"{name}{i}", png(i), {"captions": [f"A {things[i % 4]} on a beach .", "A photo ."]})
            for i in range(8)
        ]
        write_shard(data / name / "train-0000.tar", list(samples))
    labels = [(f"l{i}", png(i), {"label": things[i % 4], "class": things[i % 4]}) for i in range(8)]
    write_shard(data / "concepts" / "train-0000.tar", list(labels))
    question = {"question": "Where is it?", "answer": "A beach."}
    qa = {"captions": ["it is a beach"], "captions_are": "by rule", "qa": [question, question]}
    write_shard(data / "visual7w" / "train-0000.tar", [(f"q{i}", png(i), qa) for i in range(4)])
    text = data / "text"
    text.mkdir(parents=True, exist_ok=True)
    with gzip.open(text / "captions.jsonl.gz", "wt") as lines:
        for i in range(40):
            caption = f"A {things[i % 4]} and a {things[(i + 1) % 4]} in the snow."
            lines.write(json.dumps({"caption": caption, "source": "test"}) + "\n")
    (text / "words.txt").write_text("\n".join(WORDS))


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar file of these files, in this order."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
