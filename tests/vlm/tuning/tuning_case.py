"""A tiny encoder, captioned shards and conversations to tune on."""

import json
from pathlib import Path

import torch

from sparse_encoder.towers import export
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.presets import tower_preset
from tests.tiny_model import png, write_tar

THINGS = ["dog", "cat", "car", "ball"]
SETTINGS = {
    "stage1.samples": 16,
    "stage2.samples": 48,
    "words": "",
}


def write_encoder(folder: Path, activation: str = "relu") -> Path:
    """An exported sparse CLIP with random weights: 128 features, 4 x 4 cells."""
    from dataclasses import replace

    config = tower_preset("vit-tiny-8x")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        export(SparseClip.build(replace(config, activation=activation)).eval(), folder)
    return folder


def write_words(folder: Path) -> Path:
    path = folder / "words.txt"
    path.write_text("\n".join([*THINGS, "beach", "snow", "red"]))
    return path


def write_captions(folder: Path) -> list[str]:
    """One shard of eight photographs, two captions each."""
    files: dict[str, bytes] = {}
    for i in range(8):
        captions = [f"A {THINGS[i % 4]} on a beach.", f"The {THINGS[i % 4]}."]
        files[f"k{i}.png"] = png(i)
        files[f"k{i}.json"] = json.dumps({"captions": captions}).encode()
    return [str(write_tar(folder / "captions.tar", files))]


def write_conversations(folder: Path, n: int = 8) -> Path:
    """LLaVA's layout: one image and two answers, two images, and none."""
    for i in range(4):
        (folder / f"{i}.png").write_bytes(png(i))
    items = []
    for i in range(n):
        turns: list[tuple[str, str]]
        if i % 4 < 2:
            images = [f"{i % 4}.png"]
            turns = [("human", "<image>\nWhat is it?"), ("gpt", f"A {THINGS[i % 4]}.")]
            turns += [("human", "Where?"), ("gpt", "On a beach.")]
        elif i % 4 == 2:
            images = ["2.png", "3.png"]
            turns = [("human", "<image>\n<image>\nSame?"), ("gpt", "No.")]
        else:
            images, turns = [], [("human", "Say hi."), ("gpt", "Hi.")]
        said = [{"from": role, "value": text} for role, text in turns]
        items.append({"id": f"c{i}", "image": images, "conversations": said})
    path = folder / "talks.json"
    path.write_text(json.dumps(items))
    return path
