"""Which classifier output belongs to which name."""

from sparse_encoder.dataset import Sample
from sparse_encoder.teacher import MISSING_CLASSES, N_CLASSES, teacher_classes


def test_the_places_of_missing_classes_are_kept_free() -> None:
    ids = sorted({*MISSING_CLASSES, *(f"n0{i:07d}" for i in range(1000000, 1000998))})
    samples = [
        Sample(f"imagenet_a_{i}", b"", label=f"thing {i}", category=i)
        for i in ids
        if i not in MISSING_CLASSES
    ]
    names, outputs = teacher_classes(samples)
    assert len(names) == N_CLASSES - len(MISSING_CLASSES)
    missing = {ids.index(i) for i in MISSING_CLASSES}
    assert set(range(N_CLASSES)) - set(outputs.tolist()) == missing
    assert names[5] == f"thing {ids[outputs[5]]}"


def test_without_all_classes_there_is_no_teacher() -> None:
    names, outputs = teacher_classes([Sample("imagenet_a_1", b"", label="tench", category="n1")])
    assert names == [] and len(outputs) == 0
