"""The batch benchmark compares like with like."""

from pathlib import Path

from bench.batch.compare import Clock, batch, made_up_photo, measured, plain_loop
from bench.batch.memory import memory
from serving.batch.run import Pace
from tests.tiny_model import tiny_pipeline


def test_loop_and_batch_say_the_same_and_their_time_is_split(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    paths = [tmp_path / f"{n}.jpg" for n in range(5)]
    for n, path in enumerate(paths):
        path.write_bytes(made_up_photo(n, (64, 48)))
    plain = measured(lambda clock: plain_loop(pipeline, paths, 4, clock))
    assert set(plain.clock.spent) == {"decode", "encode", "LLM"}
    assert 0 < sum(plain.clock.spent.values()) <= plain.wall_s
    pipeline.kept_codes.clear()
    ours = measured(
        lambda clock: batch(pipeline, tmp_path, Pace(batch_size=3, workers=0), 4, clock)
    )
    assert set(ours.clock.spent) == {"encode", "LLM"}
    assert 0 < sum(ours.clock.spent.values()) <= ours.wall_s
    assert 0 <= ours.workers_cpu_s <= ours.cpu_s
    assert ours.captions == plain.captions and len(set(plain.captions)) > 1


def test_shares_add_up_with_the_rest() -> None:
    assert Clock({"a": 1.0, "b": 2.0}).shares(4.0) == "a 25 %, b 50 %, rest 25 %"


def test_memory_is_read_at_powers_of_two_and_at_the_end() -> None:
    found = list(memory(1500))
    assert [n for n, _ in found] == [1024, 1500]
    assert all(resident > 1 for _, resident in found)
