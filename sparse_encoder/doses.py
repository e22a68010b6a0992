"""How far concepts and features may be pushed: the measured curves, kept beside the atlas.

One file, ``doses.parquet``, one row a curve. A dose counts in p99, so the curves belong to the
atlas whose percentiles they were measured with: its fingerprint and a digest of its scales are
inside, and both are compared when the atlas is opened. The file is no part of a model's
fingerprint: calibrating changes no code and no answer to a request that gives its doses.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import replace_file

DOSES_FILE = "doses.parquet"
_SCHEMA = {
    "concept": pa.string(),
    "k": pa.int32(),
    "feature": pa.int32(),
    "name": pa.string(),
    "doses": pa.list_(pa.float64()),
    "n_images": pa.int32(),
    "successes": pa.list_(pa.int32()),
    "corrupt": pa.list_(pa.int32()),
    "effective": pa.float64(),
    "safe_max": pa.float64(),
    "monotone": pa.bool_(),
}


@dataclass(frozen=True)
class DoseCurve:
    """One concept (at one k) or one feature, clamped at several doses on the same photographs.

    How `effective`, `safe_max` and `monotone` follow from the counts: vlm/dose_response.py. Raises
    ValueError where the counts are none.
    """

    concept: str | None  # lower case, single spaces; exactly one of concept and feature
    k: int | None  # features the concept became; None of a feature
    feature: int | None
    name: str  # the word that was looked for in the answers
    doses: tuple[float, ...]  # p99, ascending
    n_images: int  # answers at each dose; photographs whose unsteered caption lacks the name
    successes: tuple[int, ...]  # of them, at each dose: says the name and is not corrupt
    corrupt: tuple[int, ...]
    effective: float | None  # p99, one of doses; None where no dose is
    safe_max: float | None  # p99, one of doses; None where no dose is
    monotone: bool | None  # up to safe_max; None without one

    def __post_init__(self) -> None:
        counts = (*self.successes, *self.corrupt)
        if not len(self.doses) == len(self.successes) == len(self.corrupt) or any(
            not 0 <= count <= self.n_images for count in counts
        ):
            raise ValueError(
                f"curve of {self.name!r}: {len(self.doses)} doses, successes {self.successes}, "
                f"corrupt {self.corrupt}; expected one count a dose, within 0..{self.n_images}"
            )

    @property
    def label(self) -> str:
        """``cat`` or ``#812 (tabby)``."""
        return self.concept if self.concept is not None else f"#{self.feature} ({self.name})"

    @property
    def target(self) -> tuple[str | None, int | None, int | None]:
        """What a curve is of: no two of a table share it."""
        return self.concept, self.k, self.feature


@dataclass(frozen=True, eq=False)
class Doses:
    """All curves of one atlas; read-only, safe to share.

    settings: how they were measured, as JSON has it (images, prompt, bars).
    """

    fingerprint: str  # of the model
    scales_sha256: str  # of the atlas that gave the p99
    settings: Mapping[str, Any]
    curves: tuple[DoseCurve, ...]

    def __post_init__(self) -> None:
        if len(self._by_target) < len(self.curves):
            raise ValueError("two curves of one concept or feature; expected one of each")

    @cached_property
    def _by_target(self) -> dict[tuple[str | None, int | None, int | None], DoseCurve]:
        return {curve.target: curve for curve in self.curves}

    def of_concept(self, concept: str, k: int) -> DoseCurve | None:
        """The curve of a concept (as concepts.normalise writes it) that becomes k features."""
        return self._by_target.get((concept, k, None))

    def of_feature(self, feature: int) -> DoseCurve | None:
        return self._by_target.get((None, None, feature))

    @cached_property
    def sha256(self) -> str:
        """Digest of all that is in here: a receipt names by it what its warnings go back to."""
        content = [self.fingerprint, self.scales_sha256, self.settings, *map(asdict, self.curves)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes ``doses.parquet`` in a folder that is there, whole or not at all."""
        rows = [asdict(curve) for curve in self.curves]
        columns = {key: pa.array([row[key] for row in rows], kind) for key, kind in _SCHEMA.items()}
        table = pa.table(columns).replace_schema_metadata(
            {
                "fingerprint": self.fingerprint,
                "scales_sha256": self.scales_sha256,
                "settings": json.dumps(self.settings, sort_keys=True),
            }
        )
        replace_file(
            folder / DOSES_FILE, lambda aside: pq.write_table(table, aside, compression="zstd")
        )

    @classmethod
    def load(cls, folder: Path) -> "Doses | None":
        """What lies in the folder, None where nothing does. Raises SparsightError for damage."""
        path = folder / DOSES_FILE
        if not path.is_file():
            return None
        try:
            table = pq.read_table(path)
            meta = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
            keys = [field.name for field in fields(DoseCurve)]
            curves = tuple(
                DoseCurve(**{key: _tupled(row[key]) for key in keys}) for row in table.to_pylist()
            )
            settings = json.loads(meta["settings"])
            return cls(meta["fingerprint"], meta["scales_sha256"], settings, curves)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SparsightError(
                f"{path} is no readable calibration ({error}); delete it, or make it again with "
                "`sparsight steering calibrate`",
                code="bad_doses",
            ) from error


def scales_sha256(p99: NDArray[np.float32], density: NDArray[np.float32]) -> str:
    """Digest of what a dose depends on in an atlas: the p99, and the density that picks features."""
    digest = hashlib.sha256()
    for column in (p99, density):
        digest.update(np.ascontiguousarray(column, dtype="<f4").tobytes())
    return digest.hexdigest()


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
