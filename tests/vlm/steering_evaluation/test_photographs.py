"""The two halves, and draws."""

from fake_captioner import fake_sample
from hypothesis import given
from hypothesis import strategies as st

from vlm.steering_evaluation.photographs import DEV, TEST, drawn, halves


@given(
    labels=st.lists(st.sampled_from(["dog", "cat", None]), min_size=1, max_size=40),
    seed=st.integers(0, 99),
)
def test_each_label_is_split_evenly_and_so_is_the_whole(
    labels: list[str | None], seed: int
) -> None:
    half = halves([fake_sample(i, label=label) for i, label in enumerate(labels)], seed)
    assert set(half) <= {DEV, TEST} and len(half) == len(labels)
    for name in {*labels}:
        own = [h for h, label in zip(half, labels, strict=True) if label == name]
        assert abs(own.count(DEV) - own.count(TEST)) <= 1
    assert abs(half.count(DEV) - half.count(TEST)) <= 1


def test_halves_are_the_same_each_time_and_others_by_another_seed() -> None:
    samples = [fake_sample(i) for i in range(30)]
    assert halves(samples, 1) == halves(samples, 1) != halves(samples, 2)


@given(st.integers(0, 30), st.integers(1, 40), st.integers(0, 9))
def test_a_draw_gives_at_most_as_many_as_asked_for_and_each_once(n: int, k: int, seed: int) -> None:
    found = drawn(range(n), k, seed)
    assert len(found) == min(n, k) == len(set(found))
    assert found == sorted(found) and set(found) <= set(range(n))
