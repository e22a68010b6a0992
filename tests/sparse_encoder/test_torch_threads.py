"""What a new thread computes first has the bits of what it computes later, and of every other thread."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.tiny_model import photo, tiny_pipeline


@pytest.fixture
def another_number() -> Iterator[None]:
    """A number that was set and that no new thread has by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_a_new_thread(work: Callable[[], str]) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.usefixtures("another_number")
@pytest.mark.parametrize("what", ["encode_images", "codes_of_pixels", "encode_texts"])
def test_the_first_code_of_a_new_thread_is_the_one_of_every_thread(what: str) -> None:
    encoder = tiny_pipeline().encoder

    def code() -> str:
        if what == "encode_images":
            return encoder.encode_images([photo(0)]).sha256()
        if what == "codes_of_pixels":
            return encoder.codes_of_pixels(encoder.preprocess(photo(0).pixels)[None]).sha256()
        texts = [f"the {word} in the snow" for word in ("dog", "cat", "car", "man", "ball") * 2]
        return str(encoder.encode_texts(texts).numpy().tobytes())

    assert {in_a_new_thread(code) for _ in range(3)} == {code()}
