"""The whole atlas of one model, step by step; a run that was stopped goes on where it was.

Names are chosen on one half of the images and tested on the other (`is_held_out`); all else is
measured on all of them. Each step leaves its result in a folder beside the atlas, which goes away
when the atlas is written; what needs a stopped step again is made again, to the same bits.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sparse_encoder.atlas import TABLE_FILE, VOCABULARY_FILE, FeatureAtlas, concept_codes
from sparse_encoder.dataset import refuse_no_archive
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.independent_embedding import IndependentEmbedding
from sparse_encoder.evaluation.modality import modality_scores
from sparse_encoder.feature_search.neighbours import nearest_of_all, row_norms
from sparse_encoder.features.coactivation import ROW_BLOCK, nearest_by_activation
from sparse_encoder.features.columns import ImageColumns, read_columns
from sparse_encoder.features.evidence import evidence_words
from sparse_encoder.features.measures import measure_images
from sparse_encoder.features.naming import Named, describe, name_features, text_only
from sparse_encoder.features.shard_codes import ShardStore
from sparse_encoder.features.state import Arrays, BuildState
from sparse_encoder.features.text_words import rank_words
from sparse_encoder.features.top_images import TOP_FILE, cell_maps, top_table
from sparse_encoder.features.trust import VERDICTS, trust_names
from sparse_encoder.features.words import WordForms, clean_words, images_with
from sparse_encoder.trunk_cache import cached_texts
from sparse_encoder.wheel import file_sha256

Told = Callable[[str, int, int], None]  # step, done, of


@dataclass(frozen=True)
class AtlasSettings:
    """How much is looked at and kept."""

    top_images: int = 16  # a feature
    neighbours: int = 8  # a feature, by head and by activation each
    word_candidates: int = 12  # words a feature that are weighed against each other
    at_least: int = 3  # images that must be said to show a word before it is weighed
    most_images: int = 16_384  # that names are chosen on, and as many that they are tested on
    coactive_images: int = 2_048  # of those names are chosen on, for neighbours by activation
    texts: int = 4_096  # whose mean activation enters modality

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise SparsightError(f"{name} is {value}, expected at least 1", param=name)


def build_features(
    encoder: SparseEncoder,
    shards: Sequence[Path],
    words: Iterable[str],
    out: Path,
    *,
    fingerprint: str,
    test_shards: Sequence[Path] = (),
    forms: WordForms | None = None,
    vocabulary: Iterable[str] = (),
    embedding: IndependentEmbedding | None = None,
    settings: AtlasSettings | None = None,
    overwrite: bool = False,
    told: Told = lambda *_: None,
) -> FeatureAtlas:
    """Measures the features of `encoder` and writes the atlas to `out`; the same call goes on.

    test_shards: more images to test names on, not looked at for anything else. words: candidates for
    names. vocabulary: what a concept may be called beside them. embedding:
    judge of Clarity and MonoSemanticity, None for the trunk itself. Raises SparsightError without a
    word, without a photograph, or where `out` holds an atlas and `overwrite` is not set.
    """
    settings, forms = settings or AtlasSettings(), forms or WordForms()
    for shard in (*shards, *test_shards):
        refuse_no_archive(shard, param="images")
    candidates = _merged_words(words, forms)
    if (out / TABLE_FILE).exists() and not overwrite:
        raise SparsightError(
            f"{out} holds an atlas already; give another folder, or --force to replace it",
            param="out",
            code="atlas_exists",
        )
    judge = embedding.name if embedding is not None else "trunk"
    state = BuildState(out, _digest(fingerprint, shards, test_shards, candidates, judge, settings))
    store = ShardStore(state, encoder, shards, embedding)
    test_store = ShardStore(state, encoder, test_shards, only_tests=True)
    for i, (part, place) in enumerate([(s, j) for s in (store, test_store) for j in range(len(s))]):
        told("images", i, len(store) + len(test_store))
        part[place]
    run = _Run(encoder, store, test_store, state, candidates, forms, settings, told)
    atlas, pictures = run.measure(fingerprint, vocabulary)
    _put(atlas, pictures, state.folder / "atlas", out)
    state.remove()
    told("done", 1, 1)
    return atlas


@dataclass
class _Run:
    """What the steps share."""

    encoder: SparseEncoder
    store: ShardStore
    test_store: ShardStore
    state: BuildState
    words: list[str]
    forms: WordForms
    settings: AtlasSettings
    told: Told

    def measure(self, fingerprint: str, vocabulary: Iterable[str]) -> tuple[FeatureAtlas, pa.Table]:
        n, settings, told = self.encoder.config.features, self.settings, self.told
        told("measures", 0, 1)
        seen = self.state.once(
            "measures", lambda: measure_images(self.store, n, settings.top_images)
        )
        if not int(seen["n_images"]):
            raise SparsightError(
                f"no readable photograph in {len(self.store)} shards; expected tar files with "
                "KEY.jpg beside KEY.json",
                param="images",
            )
        live = seen["density"] > 0
        chosen_on = read_columns(self.store, n, False, settings.most_images)
        tested_on = read_columns(chain(self.store, self.test_store), n, True, settings.most_images)
        named, lifts = self._names(live, chosen_on)
        trust = self._trust(named, tested_on)
        maps = list(cell_maps(self.store, seen["top_image"]))
        pictures = top_table(
            maps,
            [shard.name for shard in self.store.shards],
            seen["top_activation"],
            fingerprint,
            self.encoder.grid,
        )
        atlas = FeatureAtlas(
            fingerprint=fingerprint,
            names=[name.words[0] if name.words else "" for name in named],
            runner_up=[name.words[1:] for name in named],
            name_score=np.array([name.activation for name in named], np.float32),
            **{key: seen[key] for key in ("density", "p50", "p90", "p99", "max")},
            modality=self._modality(seen, chosen_on),
            vocabulary=frozenset({*self.words, *vocabulary} - {""}),
            description=self._descriptions(named, seen["top_image"]),
            named_by=[name.by for name in named],
            trust=[VERDICTS[v] for v in trust["verdict"]],
            trust_positives=trust["positives"],
            trust_auc=trust["auc"],
            trust_low=trust["low"],
            trust_high=trust["high"],
            mean=seen["mean"],
            clarity=seen["clarity"],
            monosemanticity=seen["monosemanticity"],
            name_lift=lifts,
            near_head=self._near_by_head(live),
            near_active=self._near_by_activation(chosen_on),
            doses=None,
        )
        return atlas, pictures

    def _names(self, live: np.ndarray, columns: ImageColumns) -> tuple[list[Named], "np.ndarray"]:
        n, settings = self.encoder.config.features, self.settings
        text = rank_words(
            self.words,
            self._encode,
            n,
            settings.word_candidates,
            self.state,
            lambda done: self.told("words", done, len(self.words)),
        )
        spoken = self.forms.merged(self.words)
        said = [self.forms.said_in(texts) for texts in columns.texts]
        places = images_with(spoken, said, settings.at_least)
        evidence = text_only(n, settings.word_candidates)
        if places:
            evidence = evidence_words(
                columns,
                places,
                spoken,
                self._encode,
                torch.from_numpy(text["mean"]),
                torch.from_numpy(text["deviation"]),
                settings.word_candidates,
                self.state,
                lambda done: self.told("names", done, len(places)),
            )
        shown = [spoken[lemma] for lemma in places]
        named = name_features(live.tolist(), evidence, shown, text, self.words, self.forms)
        return named, self._lifts(named)

    def _lifts(self, named: Sequence[Named]) -> "np.ndarray":
        """Text activation of each feature's name over the length of the name's code."""
        first = sorted({name.words[0] for name in named if name.words})
        length: dict[str, float] = {}
        for start in range(0, len(first), 1024):
            block = first[start : start + 1024]
            norms = concept_codes(block, self._encode).norm(dim=1).clamp(min=1e-12)
            length.update(zip(block, norms.tolist(), strict=True))
        return np.array(
            [name.activation / length[name.words[0]] if name.words else 0.0 for name in named],
            np.float32,
        )

    def _trust(self, named: Sequence[Named], columns: ImageColumns) -> Arrays:
        self.told("trust", 0, 1)
        lemmas = [self.forms.lemma(name.words[0]) if name.words else "" for name in named]
        said = [self.forms.said_in(texts) for texts in columns.texts]
        places = images_with(set(lemmas) - {""}, said, 1)
        return self.state.once("trust", lambda: trust_names(columns, places, lemmas))

    def _modality(self, seen: Arrays, columns: ImageColumns) -> "np.ndarray":
        texts = [text for said in columns.texts for text in said][: self.settings.texts]
        texts = texts or self.words[: self.settings.texts]
        total = torch.zeros(self.encoder.config.features, dtype=torch.float64)
        for start in range(0, len(texts), 1024):
            total += self._encode(texts[start : start + 1024]).double().sum(0)
        score = modality_scores(torch.from_numpy(seen["image_mean"]), total / len(texts))
        return np.asarray(score.nan_to_num(0.5).float().numpy())

    def _descriptions(self, named: Sequence[Named], top_image: "np.ndarray") -> list[str]:
        wanted = set(top_image[top_image >= 0].ravel().tolist())
        known = {self.forms.lemma(word) for word in self.words}
        # Without broader words: a description says what was said.
        literal = WordForms(self.forms.base)
        said: dict[int, set[str]] = {}
        number = 0
        for shard in self.store:
            for texts in shard.texts:
                if number in wanted:
                    said[number] = literal.said_in(texts) & known
                number += 1
        return [
            describe(name.words, [said[i] for i in row.tolist() if i >= 0])
            for name, row in zip(named, top_image, strict=True)
        ]

    def _near_by_head(self, live: np.ndarray) -> list[list[int]]:
        self.told("neighbours", 0, 1)
        weight = self.encoder.image_head.weight.detach()
        index, cosine = nearest_of_all(weight, row_norms(weight), self.settings.neighbours, live)
        return _lists(index.numpy(), np.isfinite(cosine.numpy()))

    def _near_by_activation(self, columns: ImageColumns) -> list[list[int]]:
        n, out = self.encoder.config.features, []
        for start in range(0, n, ROW_BLOCK):
            self.told("neighbours", start, n)
            found = self.state.once(
                f"near-{start}",
                lambda start=start: nearest_by_activation(  # type: ignore[misc]
                    columns,
                    start,
                    min(start + ROW_BLOCK, n),
                    self.settings.neighbours,
                    self.settings.coactive_images,
                ),
            )
            out += _lists(found["index"], found["index"] >= 0)
        return out

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> Tensor:
        """Codes of texts; what the trunk makes of them is kept between builds."""
        config = self.encoder.config
        vectors = cached_texts(texts, self.encoder.text_trunk, config.text_trunk, fast=True)
        code: Tensor = self.encoder.text_head(vectors.float())
        return code


def _put(atlas: FeatureAtlas, pictures: pa.Table, aside: Path, out: Path) -> None:
    """All files aside, then into place at once: a full disk leaves the atlas that was there whole."""
    try:
        atlas.save(aside)
        atlas.remove_other_doses(out)
        pq.write_table(pictures, aside / TOP_FILE, compression="zstd")
        # The table of names last: where it is, all is there.
        for name in (TOP_FILE, VOCABULARY_FILE, TABLE_FILE):
            os.replace(aside / name, out / name)
    except OSError as error:
        raise SparsightError(
            f"cannot write the atlas to {out}: {error}; what was measured is kept, make room and "
            "run the same again",
            param="out",
        ) from error


def _merged_words(words: Iterable[str], forms: WordForms) -> list[str]:
    candidates = list(forms.merged(clean_words(words)).values())
    if not candidates:
        raise SparsightError(
            "there is no word to name features by; give a list with at least one word",
            param="words",
            code="no_words",
        )
    return candidates


def _digest(
    fingerprint: str,
    shards: Sequence[Path],
    test_shards: Sequence[Path],
    words: Sequence[str],
    judge: str,
    settings: object,
) -> str:
    what = {
        "fingerprint": fingerprint,
        "shards": [file_sha256(shard) for shard in shards],
        "test_shards": [file_sha256(shard) for shard in test_shards],
        "words": hashlib.sha256("\n".join(words).encode()).hexdigest(),
        "judge": judge,
        "settings": repr(settings),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _lists(index: "np.ndarray", kept: "np.ndarray") -> list[list[int]]:
    return [row[here].tolist() for row, here in zip(index, kept, strict=True)]
