"""From an encoder and data to a whole model folder: atlas, projector, LoRA."""

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from sparse_encoder.atlas import FeatureAtlas, first_atlas
from sparse_encoder.atlas_build import build_atlas
from sparse_encoder.checkpoint import CHECKPOINT
from sparse_encoder.codes import Codes
from sparse_encoder.dataset import find_shards
from sparse_encoder.encoder import WEIGHTS, SparseEncoder
from sparse_encoder.model_folder import find_model
from sparse_encoder.pretrain.sharding import refuse_foreign_shards
from sparse_encoder.train import SHARDS
from sparse_encoder.trunk_cache import CachedImages, cached_images, cached_texts
from vlm.caption_corpus import read_captions
from vlm.concept_swaps import SwapTable
from vlm.model_folder import DEFAULT_MODEL, read_model
from vlm.naming_words import naming_words
from vlm.projector_file import projector_entry
from vlm.projector_init import name_features
from vlm.start_from import start_with, starting_folder
from vlm.text_codes import TextCodes
from vlm.train import Captioner, train
from vlm.train_config import VlmRun, vlm_run
from vlm.training_rows import RowMaker

UNSET = "0" * 64  # fingerprint of an atlas whose model is not finished


def train_vlm(
    preset: str,
    data: Path,
    out: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    encoder_folder: Path | None = None,
) -> list[float]:
    """Trains PRESET's projector and LoRA on the data below `data`; `out` becomes a model folder.

    encoder_folder: result of ``sparsight train encoder`` (default: the encoder of the model that the
    run starts from, else of the model in the box). Returns the loss of every step. The same call goes
    on with a run that was stopped. Under ``accelerate launch`` every process calls it.
    """
    run = vlm_run(preset, settings or {})
    accelerator = Accelerator()
    refuse_foreign_shards(accelerator, "let each process hold the small model whole")
    start = starting_folder(run.start_from, out) if run.start_from else None
    source = encoder_folder or start or find_model(DEFAULT_MODEL)
    out.mkdir(parents=True, exist_ok=True)
    encoder = SparseEncoder.load(source)
    with accelerator.main_process_first():  # makes caches and atlas, which the others read
        if accelerator.is_main_process:
            _take_encoder(source, out, encoder, run)
        images = cached_images(
            find_shards(data, *SHARDS), encoder.image_trunk, encoder.config.image_trunk
        )
        captions = read_captions(data)
        if 0 < run.text_captions < len(captions):
            captions = captions[:: len(captions) // run.text_captions]
        vectors = cached_texts(captions, encoder.text_trunk, encoder.config.text_trunk, fast=True)
        short = [i for i, c in enumerate(captions) if len(c.split()) <= run.longest_caption]
        captions, vectors = [captions[i] for i in short], vectors[short]
        counts = Counter(s.label.lower() for s in images.samples if s.label)
        labels = sorted(counts)
        atlas = _atlas(encoder, images, captions, vectors, labels, data, source, out)
    device = accelerator.device if accelerator.device.type == "cuda" else "cpu"
    captioner = Captioner(run, encoder.config.features, encoder.grid, device)
    if (out / CHECKPOINT).exists():
        pass  # what it holds replaces any beginning
    elif start is not None:
        start_with(captioner.projector, captioner.model, run.llm, start, source)
    else:
        words, _ = naming_words(data, labels, captions)
        _name_features(captioner, encoder, images, words)
    maker = RowMaker(
        encoder,
        atlas,
        captioner.tokenizer,
        images,
        captions,
        vectors,
        _text_codes(encoder, images, vectors, run),
        SwapTable.mine(captions, counts, at_least=max(2, len(captions) // 1500)),
        run.edits,
    )
    losses = train(captioner, maker, run, out, accelerator)
    if accelerator.is_main_process:
        stamp(out)
    accelerator.wait_for_everyone()
    accelerator.end_training()  # last, for it takes the processes apart
    return losses


@torch.no_grad()
def _name_features(
    captioner: Captioner, encoder: SparseEncoder, images: CachedImages, words: list[str]
) -> None:
    step = max(1, len(images) // 40)
    examples = [encoder.code_of_cells(images.cells(i)) for i in range(0, len(images), step)]
    name_features(
        captioner.projector,
        captioner.model,
        captioner.tokenizer,
        words,
        encoder.encode_texts,
        Codes.cat(examples),
    )


def _take_encoder(source: Path, out: Path, encoder: SparseEncoder, run: VlmRun) -> None:
    """Copies the heads and writes the model's config."""
    if source.resolve() != out.resolve():
        shutil.copyfile(source / WEIGHTS, out / WEIGHTS)
    made_by = json.loads((source / "config.json").read_text()).get("run", {})
    config = {
        "name": out.name,
        "encoder": encoder.config_json(),
        "projector": projector_entry(run.groups, run.removal),
        "llm": run.llm,
        "run": made_by,
        "vlm_run": run.to_json(),
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def _atlas(
    encoder: SparseEncoder,
    images: CachedImages,
    captions: list[str],
    vectors: Tensor,
    labels: list[str],
    data: Path,
    source: Path,
    out: Path,
) -> FeatureAtlas:
    """The atlas in `out`; where there is none yet the encoder's own, or else one built here.

    Its fingerprint is set at the end.
    """
    found = first_atlas(out, source)
    if found is not None:
        folder, atlas = found
        if folder != out:
            atlas = replace(atlas, fingerprint=UNSET, doses=None)
            atlas.save(out / "features")
        return atlas
    words, phrases = naming_words(data, labels, captions)
    atlas = build_atlas(
        encoder,
        _global_codes(encoder, images),
        words,
        fingerprint=UNSET,
        captions=itertools.islice(captions, 0, None, max(1, len(captions) // 4000)),
        phrases=phrases,
    )
    atlas.save(out / "features")
    return atlas


@torch.no_grad()
def _global_codes(encoder: SparseEncoder, images: CachedImages) -> Iterator[Codes]:
    pooled = images.pooled()
    for start in tqdm(range(0, len(pooled), 256), desc="atlas", unit="block", delay=1):
        yield Codes.from_dense(encoder.image_head(pooled[start : start + 256]))


@torch.no_grad()
def _text_codes(
    encoder: SparseEncoder, images: CachedImages, vectors: Tensor, run: VlmRun
) -> TextCodes:
    """Means of both towers, over photographs and over as many captions."""
    picks = np.random.default_rng(0).integers(len(vectors), size=4000)
    image = _mean([c.dense().mean(0) for c in _global_codes(encoder, images)])
    text = _mean(
        [encoder.text_head(vectors[block].float()).mean(0) for block in np.array_split(picks, 16)]
    )
    return TextCodes(image, text, run.noise)


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean(0)


def stamp(out: Path) -> None:
    """Gives the folder's atlas the fingerprint of the model that it now belongs to, without doses."""
    atlas = FeatureAtlas.load(out / "features")
    own = replace(atlas, fingerprint=read_model(out).fingerprint, doses=None)
    own.save(out / "features")
