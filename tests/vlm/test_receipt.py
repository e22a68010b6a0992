"""A receipt survives JSON, is true of the codes, and verify finds whatever was altered."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.doses import DoseCurve, Doses
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.apply import AppliedEdit, apply_edits, steering_warnings
from vlm.changes import EditedCodes
from vlm.concepts import resolve
from vlm.dose_warnings import ABOVE_SAFE, dose_warnings
from vlm.edits import Edit
from vlm.receipt import KEYS, Receipt, make_receipt, verify_receipt

Encode = Callable[[list[str]], Tensor]
EDITS = (
    Edit("ablate", "dog"),
    Edit("clamp", "cat", value=1.0, region=(0.0, 0.0, 0.5, 1.0)),
    Edit("scale", feature=3, value=1.5, image=1),
    Edit("add", feature=4, value=9.0, unit="raw"),
)


@dataclass(frozen=True)
class Steered:
    edited: EditedCodes
    applied: tuple[AppliedEdit, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FakePipeline:
    """Codes that depend on an image's digest alone."""

    atlas: FeatureAtlas
    encode_text: Encode
    fingerprint: str = "f" * 64
    removal: float = 5.0

    def encode(self, images: Sequence[DecodedImage]) -> Codes:
        rows = []
        for image in images:
            random = torch.Generator().manual_seed(int(image.sha256[:8], 16))
            rows.append(torch.randn(10, 12, generator=random).relu())
        return Codes.from_dense(torch.cat(rows), (3, 3))

    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Steered:
        resolved = resolve(edits, self.atlas, self.encode_text)
        edited, applied = apply_edits(codes, resolved)
        return Steered(edited, applied, steering_warnings(applied, self.atlas))

    def receipt(self, images: Sequence[DecodedImage], edits: Sequence[Edit]) -> Receipt:
        codes = self.encode(images)
        steered = self.steer(codes, edits)
        return make_receipt(
            fingerprint=self.fingerprint,
            images=[image.sha256 for image in images],
            edits=edits,
            applied=steered.applied,
            codes=steered.edited,
            warnings=steered.warnings,
            removal=self.removal,
        )


def image(digit: str) -> DecodedImage:
    return DecodedImage(Image.new("RGB", (4, 4)), digit * 64, (4, 4))


IMAGES = (image("1"), image("2"))


@pytest.fixture(scope="module")
def pipeline(tiny_atlas: FeatureAtlas, fake_encode_text: Encode) -> FakePipeline:
    return FakePipeline(tiny_atlas, fake_encode_text)


@pytest.fixture
def receipt(pipeline: FakePipeline) -> dict[str, Any]:
    return json.loads(json.dumps(pipeline.receipt(IMAGES, EDITS).to_json()))


def test_json_gives_back_the_same_receipt(pipeline: FakePipeline, receipt: dict[str, Any]) -> None:
    made = pipeline.receipt(IMAGES, EDITS)
    assert Receipt.from_json(receipt) == made
    assert tuple(receipt) == (*KEYS, "removal")


def test_the_receipt_tells_doses_activations_and_norms(
    pipeline: FakePipeline, receipt: dict[str, Any]
) -> None:
    codes = pipeline.encode(IMAGES)
    edited = pipeline.steer(codes, EDITS).edited
    rows, after = codes.dense()[::10], edited.codes.dense()[::10]
    assert receipt["steering"] == {"edits": [edit.to_json() for edit in EDITS]}
    assert receipt["codes_sha256"] == edited.sha256()
    assert receipt["norms"][1]["before"] == pytest.approx(float(rows[1].norm()))
    assert receipt["norms"][1]["after"] == pytest.approx(float(after[1].norm()))
    # image 0: dog (0, 2, 8), cat (1, 9), #4; image 1 the same and #3
    touched = [(e["image"], e["feature"]) for e in receipt["edits"]]
    first = [(0, f) for f in (0, 8, 1, 2, 9, 4)]
    assert touched == first + [(1, f) for f in (0, 8, 1, 2, 9, 3, 4)]
    scale = receipt["edits"][11]
    assert scale["dose"] == {"raw": None, "p99": None, "factor": 1.5}
    assert scale["after"] == pytest.approx(1.5 * scale["before"])
    add = receipt["edits"][12]
    assert (add["edit"], add["op"], add["name"]) == (3, "add", "woman")
    assert add["dose"] == {"raw": 9.0, "p99": pytest.approx(9 / 1.4)}
    assert any("above 2.1, the largest" in line for line in receipt["warnings"])


def test_a_true_receipt_verifies(pipeline: FakePipeline, receipt: dict[str, Any]) -> None:
    assert verify_receipt(receipt, IMAGES, pipeline) == []


def test_removal_is_told_where_something_was_ablated(
    pipeline: FakePipeline, receipt: dict[str, Any]
) -> None:
    assert receipt["removal"] == 5.0
    assert "removal" not in pipeline.receipt(IMAGES, EDITS[1:]).to_json()
    assert "removal" not in replace(pipeline, removal=0.0).receipt(IMAGES, EDITS).to_json()
    del receipt["removal"]
    assert verify_receipt(receipt, IMAGES, pipeline) == [
        "removal: the receipt says None, rebuilt 5.0"
    ]


def test_an_unsteered_receipt_verifies(pipeline: FakePipeline) -> None:
    made = pipeline.receipt(IMAGES, ()).to_json()
    assert (made["edits"], made["steering"]) == ([], {"edits": []})
    assert verify_receipt(made, IMAGES, pipeline) == []


def test_a_receipt_without_images_verifies(pipeline: FakePipeline) -> None:
    made = make_receipt(fingerprint="f" * 64, images=(), edits=(), applied=(), codes=None)
    assert made.codes_sha256 is None
    assert verify_receipt(made.to_json(), (), pipeline) == []


# (what is altered, a word of the difference)
ALTERED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda r: r.update(fingerprint="e" * 64), "fingerprint: the receipt says 'eee"),
    (lambda r: r["images"].append({"sha256": "4" * 64}), "images: the receipt has 3, 2 given"),
    (lambda r: r["images"][1].update(sha256="3" * 64), "images[1].sha256"),
    (lambda r: r["edits"][0].update(after=0.123), "edits[0].after: the receipt says 0.123"),
    (lambda r: r["edits"][0].update(feature=7), "edits[0].feature: the receipt says 7, rebuilt 0"),
    (lambda r: r["edits"][0].update(cells_changed=99), "edits[0].cells_changed"),
    (lambda r: r["edits"][12]["dose"].update(p99=1.0), "edits[12].dose.p99"),
    (lambda r: r["edits"].pop(), "edits: the receipt has 12 entries, rebuilt 13"),
    (lambda r: r["steering"]["edits"][1].update(value=2.0), "codes_sha256"),
    (lambda r: r["steering"]["edits"][2].update(feature=999), "refuses the receipt's edits"),
    (lambda r: r.update(reach="all"), "reach: the receipt says 'all', rebuilt 'ablated'"),
    (lambda r: r["norms"][0].update(after=1.0), "norms[0].after"),
    (lambda r: r["warnings"].clear(), "warnings: the receipt has 0 entries"),
    (lambda r: r.update(codes_sha256="0" * 64), "codes_sha256: the receipt says '000"),
    (lambda r: r.update(removal=1.0), "removal: the receipt says 1.0, rebuilt 5.0"),
]


@pytest.mark.parametrize(("alter", "word"), ALTERED)
def test_an_altered_receipt_is_found_out(
    alter: Callable[[dict[str, Any]], object],
    word: str,
    pipeline: FakePipeline,
    receipt: dict[str, Any],
) -> None:
    alter(receipt)
    differences = verify_receipt(receipt, IMAGES, pipeline)
    assert any(word in line for line in differences), differences


def test_the_receipt_of_another_model_differs_in_that_alone(
    pipeline: FakePipeline, receipt: dict[str, Any]
) -> None:
    receipt["fingerprint"] = "e" * 64  # nothing else can be compared: the codes are another model's
    assert len(verify_receipt(receipt, IMAGES, pipeline)) == 1
    receipt["codes_sha256"] = "0" * 64
    assert len(verify_receipt(receipt, IMAGES, pipeline)) == 1


def test_another_photograph_is_found_out(pipeline: FakePipeline, receipt: dict[str, Any]) -> None:
    differences = verify_receipt(receipt, (IMAGES[0], image("9")), pipeline)
    assert len(differences) == 1
    assert differences[0].startswith("images[1].sha256")


# (what is broken, a word of the message, offending key)
BROKEN: list[tuple[Callable[[dict[str, Any]], object], str, str]] = [
    (lambda r: r.update(version=2), "reads version 1", "receipt.version"),
    (lambda r: r.pop("norms"), "no norms", "receipt.norms"),
    (lambda r: r.update(note="x"), "unknown key 'note'", "receipt.note"),
    (lambda r: r.update(images={}), "not a list", "receipt.images"),
    (lambda r: r["images"][0].update(sha256=1), "not a string", "receipt.images[0].sha256"),
    (lambda r: r["edits"].append(1), "not an object", "receipt.edits[13]"),
    (lambda r: r["edits"][0].update(feature=True), "whole number", "receipt.edits[0].feature"),
    (lambda r: r["edits"][0].update(after="1"), "not a number", "receipt.edits[0].after"),
    (lambda r: r["edits"][0].update(op="x"), "not one of", "receipt.edits[0].op"),
    (lambda r: r["edits"][0].update(dose={}), "no raw", "receipt.edits[0].dose.raw"),
    (lambda r: r.update(reach="here"), "not one of", "receipt.reach"),
    (lambda r: r.update(codes_sha256=5), "not a string", "receipt.codes_sha256"),
    (lambda r: r.update(calibration=0), "not a string", "receipt.calibration"),
    (lambda r: r.update(removal="5"), "not a number", "receipt.removal"),
    (
        lambda r: r["steering"]["edits"][0].update(op="x"),
        "op is 'x'",
        "receipt.steering.edits[0].op",
    ),
]


@pytest.mark.parametrize(("damage", "word", "key"), BROKEN)
def test_what_is_no_receipt_is_refused(
    damage: Callable[[dict[str, Any]], object],
    word: str,
    key: str,
    pipeline: FakePipeline,
    receipt: dict[str, Any],
) -> None:
    broken = copy.deepcopy(receipt)
    damage(broken)
    with pytest.raises(SparsightError) as caught:
        verify_receipt(broken, IMAGES, pipeline)
    assert word in str(caught.value)
    assert caught.value.param == key


@pytest.mark.parametrize("other", [None, [], "receipt", 3])
def test_json_of_another_shape_is_refused(other: Any, pipeline: FakePipeline) -> None:
    with pytest.raises(SparsightError, match="receipt is not an object"):
        verify_receipt(other, IMAGES, pipeline)


@dataclass(frozen=True)
class CalibratedPipeline(FakePipeline):
    """As Pipeline.steer, with its warnings of doses and its note of the calibration."""

    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Steered:
        resolved = resolve(edits, self.atlas, self.encode_text)
        edited, applied = apply_edits(codes, resolved)
        above = dose_warnings(applied, edits, self.atlas)
        return Steered(edited, applied, (*steering_warnings(applied, self.atlas), *above))

    def receipt(self, images: Sequence[DecodedImage], edits: Sequence[Edit]) -> Receipt:
        assert self.atlas.doses is not None
        return replace(super().receipt(images, edits), calibration=self.atlas.doses.sha256)


def calibrated(pipeline: FakePipeline, effective: float, safe: float) -> CalibratedPipeline:
    atlas = pipeline.atlas
    curve = DoseCurve("cat", 16, None, "cat", (0.5, 1.0), 40, (9, 9), (0, 0), effective, safe, True)
    doses = Doses(atlas.fingerprint, atlas.scales_sha256, {}, (curve,))
    return CalibratedPipeline(replace(atlas, doses=doses), pipeline.encode_text)


LEFT_OUT = (Edit("clamp", "cat"),)


def test_a_calibrated_receipt_names_its_doses_and_verifies(pipeline: FakePipeline) -> None:
    here = calibrated(pipeline, 1.0, 0.5)
    made = json.loads(json.dumps(here.receipt(IMAGES, LEFT_OUT).to_json()))
    assert made["calibration"] == here.atlas.doses.sha256  # type: ignore[union-attr]
    assert any(ABOVE_SAFE in line for line in made["warnings"])
    assert made["edits"][0]["dose"]["p99"] == 1.0
    assert verify_receipt(made, IMAGES, here) == []
    made["warnings"] = []  # of the same calibration they have to be there
    assert verify_receipt(made, IMAGES, here) != []


@pytest.mark.parametrize("now", [(0.5, 1.0), None])
def test_a_receipt_stays_true_when_the_model_is_calibrated_again(
    pipeline: FakePipeline, now: tuple[float, float] | None
) -> None:
    made = calibrated(pipeline, 1.0, 0.5).receipt(IMAGES, LEFT_OUT).to_json()
    other = pipeline if now is None else calibrated(pipeline, *now)
    assert verify_receipt(made, IMAGES, other) == []
    made["edits"][0]["dose"]["p99"] = 0.75  # but not with another dose
    assert verify_receipt(made, IMAGES, other) != []


def test_a_receipt_from_before_the_calibration_verifies(pipeline: FakePipeline) -> None:
    edits = (Edit("clamp", "cat", value=1.0),)
    made = pipeline.receipt(IMAGES, edits).to_json()
    assert "calibration" not in made
    assert verify_receipt(made, IMAGES, calibrated(pipeline, 0.5, 0.5)) == []
    left_out = {**made, "steering": {"edits": [{"op": "clamp", "concept": "cat"}]}}
    assert verify_receipt(left_out, IMAGES, calibrated(pipeline, 0.5, 0.5)) == []
