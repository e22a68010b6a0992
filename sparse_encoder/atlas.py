"""The feature atlas: what each feature means and how strong it gets, one row a feature.

Everything is measured on a fixed reference set (see atlas_build.py) and belongs to one model: the
fingerprint inside is compared when the atlas is opened, since feature 812 of another model is
another thing. Two files: ``features.parquet`` and ``vocabulary.txt.gz``; beside them, once the
model is calibrated, ``doses.parquet`` (see doses.py).
"""

import gzip
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from sparse_encoder.doses import DOSES_FILE, Doses, scales_sha256
from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import replace_file, write_whole

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
NUMBERS = ("name_score", "density", "p50", "p90", "p99", "max", "modality")
# What `sparsight features build` measures beyond that; an atlas of a training run has none of it.
MORE_NUMBERS = ("mean", "clarity", "monosemanticity", "name_lift")
TRUST_NUMBERS = ("trust_auc", "trust_low", "trust_high")
MORE: dict[str, pa.DataType] = {
    "description": pa.string(),
    "named_by": pa.string(),
    "trust": pa.string(),
    "trust_positives": pa.int32(),
    **dict.fromkeys((*MORE_NUMBERS, *TRUST_NUMBERS), pa.float32()),
    "near_head": pa.list_(pa.int32()),
    "near_active": pa.list_(pa.int32()),
}
TABLE_FILE = "features.parquet"
VOCABULARY_FILE = "vocabulary.txt.gz"

# A bare word and a sentence around it: the text head was trained on captions, and the mean of the
# two codes is less jumpy than either. Naming and resolving share them, so names resolve as read.
TEMPLATES = ("{}", "a photo of a {}.")


def concept_codes(phrases: Sequence[str], encode_text: Callable[[list[str]], Tensor]) -> Tensor:
    """The code of each phrase, (phrases, features): the mean over its filled-in templates."""
    prompts = [template.format(phrase) for phrase in phrases for template in TEMPLATES]
    codes = encode_text(prompts)  # (phrases * templates, features)
    return codes.view(len(phrases), len(TEMPLATES), -1).mean(1)


@dataclass(frozen=True, eq=False)
class FeatureAtlas:
    """Names and scales of all features of one model; read-only, safe to share.

    Arrays have shape (features,). Raises ValueError where a length differs.
    """

    fingerprint: str  # of the model it was made for
    names: list[str]  # the word with the largest text activation, "" where no word has any
    runner_up: list[list[str]]  # the next words, best first
    name_score: FloatArray  # text activation of the name, raw units, higher is surer
    density: FloatArray  # share of reference images with the feature active, [0, 1]
    p50: FloatArray  # percentiles of the non-zero global activations, raw units, 0 where dead
    p90: FloatArray
    p99: FloatArray  # the unit of a dose
    max: FloatArray
    modality: FloatArray  # [0, 1], 1 = active on images only, 0 = on texts only, 0.5 = on neither
    vocabulary: frozenset[str]  # lower-case words and phrases that a concept may use

    # None in an atlas that `sparsight features build` has not made; all or none of them.
    description: list[str] | None = None  # one line: names, and what is said of its images
    named_by: list[str] | None = None  # "images", "text", or "" without a name
    trust: list[str] | None = None  # "verified", "doubtful", "unverified", "" without a name
    trust_positives: IntArray | None = None  # held-out images whose captions or labels say the name
    trust_auc: FloatArray | None = None  # on held-out images, [0, 1], NaN where not tested
    trust_low: FloatArray | None = None  # of its 95 % bootstrap interval
    trust_high: FloatArray | None = None
    mean: FloatArray | None = None  # of the non-zero global activations, raw units
    clarity: FloatArray | None = None  # [-1, 1], higher is clearer, NaN below two images
    monosemanticity: FloatArray | None = None  # [-1, 1], higher is better, NaN below two images
    name_lift: FloatArray | None = (
        None  # text activation of the name over its code's length, [0, 1]
    )
    near_head: list[list[int]] | None = None  # features with the most alike head rows, best first
    near_active: list[list[int]] | None = None  # features active on the same images, best first
    doses: Doses | None = None  # None before `sparsight steering calibrate`

    def __post_init__(self) -> None:
        n = len(self.names)
        for field in ("runner_up", *NUMBERS):
            if len(getattr(self, field)) != n:
                got = len(getattr(self, field))
                raise ValueError(f"atlas field {field} has {got} entries for {n} features")
        lengths = {f: len(v) for f in MORE if (v := getattr(self, f)) is not None}
        if lengths and (len(lengths) < len(MORE) or set(lengths.values()) != {n}):
            raise ValueError(
                f"of the {len(MORE)} measured fields of an atlas of {n} features given: {lengths}; "
                f"expected all of them, or none, as long as it has features"
            )
        if self.doses is not None and not self.fits(self.doses):
            raise ValueError("doses of another model or other scales; expected this atlas's own")

    @property
    def n_features(self) -> int:
        return len(self.names)

    @cached_property
    def dead(self) -> NDArray[np.bool_]:
        """True where a feature was never active on the reference images."""
        return np.asarray(self.density == 0)

    @cached_property
    def known_names(self) -> frozenset[str]:
        """All feature names in lower case."""
        return frozenset(name.lower() for name in self.names if name)

    @property
    def scales_sha256(self) -> str:
        """Digest of the columns that doses depend on."""
        return scales_sha256(self.p99, self.density)

    def fits(self, doses: Doses) -> bool:
        """Whether doses were measured with this model and with these scales."""
        theirs = doses.fingerprint, doses.scales_sha256
        return theirs == (self.fingerprint, self.scales_sha256)

    def save(self, folder: Path | str) -> None:
        """Writes all files; each appears whole or not at all.

        Doses that lie there and belong to other scales are removed: p99 mean other things now.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        words = "".join(f"{word}\n" for word in sorted(self.vocabulary)).encode()
        # mtime=0: the same atlas gives the same bytes, so that its hash can be pinned.
        write_whole(folder / VOCABULARY_FILE, gzip.compress(words, mtime=0))
        columns = {
            "feature": pa.array(np.arange(self.n_features, dtype=np.int32)),
            "name": pa.array(self.names, pa.string()),
            "runner_up": pa.array(self.runner_up, pa.list_(pa.string())),
            **{key: pa.array(getattr(self, key), pa.float32()) for key in NUMBERS},
        }
        if self.trust is not None:
            columns |= {key: pa.array(getattr(self, key), kind) for key, kind in MORE.items()}
        table = pa.table(columns).replace_schema_metadata(
            {
                "fingerprint": self.fingerprint,
                "vocabulary_sha256": hashlib.sha256(words).hexdigest(),
            }
        )
        replace_file(
            folder / TABLE_FILE, lambda aside: pq.write_table(table, aside, compression="zstd")
        )
        if self.doses is not None:
            self.doses.save(folder)
        else:
            self.remove_other_doses(folder)

    def remove_other_doses(self, folder: Path) -> None:
        """Removes doses in `folder` that were measured with other scales, or are damaged; logs that."""
        try:
            found = Doses.load(folder)
            fits = found is None or self.fits(found)
        except SparsightError:
            fits = False
        if not fits:
            log.warning("%s is removed: its doses count in other p99", folder / DOSES_FILE)
            (folder / DOSES_FILE).unlink()

    @classmethod
    def load(cls, folder: Path | str, *, fingerprint: str | None = None) -> "FeatureAtlas":
        """The atlas in `folder`; with `fingerprint`, only if it was made for that model.

        Raises SparsightError where a file is missing, damaged or of another model.
        """
        folder = Path(folder)
        try:
            table = pq.read_table(folder / TABLE_FILE)
            words = gzip.decompress((folder / VOCABULARY_FILE).read_bytes())
            meta = {key.decode(): text.decode() for key, text in (table.schema.metadata).items()}
            found, digest = meta["fingerprint"], meta["vocabulary_sha256"]
            numbers: dict[str, Any] = {key: _floats(table, key) for key in NUMBERS}
            names, runner_up = table["name"].to_pylist(), table["runner_up"].to_pylist()
            is_measured = "trust" in table.column_names
            more = {k: _more(table, k, kind) for k, kind in MORE.items()} if is_measured else {}
        except (OSError, EOFError, KeyError, AttributeError, pa.ArrowInvalid) as error:
            raise SparsightError(
                f"no readable feature atlas in {folder} ({error}); it needs {TABLE_FILE} and "
                f"{VOCABULARY_FILE} as the atlas build wrote them",
                code="bad_atlas",
            ) from error
        if fingerprint is not None and found != fingerprint:
            raise SparsightError(
                f"the feature atlas in {folder} was made for model {found[:12]}, not for "
                f"{fingerprint[:12]}: its feature numbers mean other things here; build it again",
                code="other_fingerprint",
            )
        if hashlib.sha256(words).hexdigest() != digest:
            raise SparsightError(
                f"{VOCABULARY_FILE} and {TABLE_FILE} in {folder} come from different builds; "
                f"build the atlas again",
                code="bad_atlas",
            )
        doses = Doses.load(folder)
        scales = scales_sha256(numbers["p99"], numbers["density"])
        if doses is not None and (doses.fingerprint, doses.scales_sha256) != (found, scales):
            raise SparsightError(
                f"{folder / DOSES_FILE} was measured with another atlas, whose p99 are not these; "
                f"delete it, and calibrate again with `sparsight steering calibrate`",
                code="bad_doses",
            )
        return cls(
            found,
            names,
            runner_up,
            vocabulary=frozenset(words.decode().splitlines()),
            **numbers,
            **more,
            doses=doses,
        )


def _floats(table: pa.Table, key: str) -> FloatArray:
    return np.asarray(table[key].to_numpy(), dtype=np.float32)


def _more(table: pa.Table, key: str, kind: pa.DataType) -> Any:
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return np.asarray(table[key].to_numpy(), dtype=kind.to_pandas_dtype())
    return table[key].to_pylist()


def first_atlas(*models: Path) -> tuple[Path, FeatureAtlas] | None:
    """The first of these model folders that has a readable atlas, with it; None where none has."""
    for model in models:
        try:
            return model, FeatureAtlas.load(model / "features")
        except SparsightError:
            continue
    return None
