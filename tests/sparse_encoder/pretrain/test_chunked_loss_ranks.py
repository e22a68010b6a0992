"""The chunked losses on 2 and 4 gloo ranks, against one process with the whole batch."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_encoder.contrastive import similarity_scale
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead
from sparse_encoder.pretrain.chunked_loss import chunked_infonce, chunked_siglip
from sparse_encoder.pretrain.code_chunks import Blocking
from sparse_encoder.pretrain.rank_gather import Ranks, exchange
from tests.ranks import LocalRanks
from tests.sparse_encoder.pretrain.plain_contrast import (
    open_clip_losses,
    plain_infonce,
    plain_siglip,
    relative_error,
)

LOCAL = 5  # pairs a rank
WIDTHS, FEATURES, RAW = (6, 9), 131, 4
BLOCKINGS = {"one tile": None, "tiles": Blocking(images=2, texts=3, features=17)}
KINDS = ("infonce", "siglip")


class TinyClip(nn.Module):
    """Trunks of one layer, heads, log scale and offset; forward gives a loss, as DDP wants it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.image_trunk, self.text_trunk = nn.Linear(RAW, WIDTHS[0]), nn.Linear(RAW, WIDTHS[1])
        self.image_head = SparseHead(WIDTHS[0], FEATURES, -0.3)
        self.text_head = SparseHead(WIDTHS[1], FEATURES, -0.5)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.offset = nn.Parameter(torch.tensor(-3.0))

    def forward(self, kind: str, raw: Tensor, **how: Any) -> tuple[Tensor, Any]:
        """The loss, with what else it found."""
        image, text = self.image_trunk(raw[:, 0]), self.text_trunk(raw[:, 1])
        # A trunk output of zeros has an empty code, since the biases are negative.
        image, text = image * (raw[:, :1, 0] < 1.5), text * (raw[:, 1:, 0] < 1.5)
        sides = (image, text, self.image_head, self.text_head)
        scale = similarity_scale(self.log_scale, 50)
        # DDP wants every parameter in the graph, SigLIP's offset in InfoNCE's too.
        unused = 0 * self.offset
        if kind == "infonce":
            found = chunked_infonce(*sides, scale, **how)
            return found.loss + unused, found
        if kind == "siglip":
            found = chunked_siglip(*sides, scale, self.offset, **how)
            return found.loss, found
        if kind == "plain infonce":
            return plain_infonce(*sides, scale) + unused, None
        if kind == "plain siglip":
            return plain_siglip(*sides, scale, self.offset), None
        clip_loss = open_clip_losses().ClipLoss(gather_with_grad=True, **how)
        codes = normalize(self.image_head(image), dim=-1), normalize(self.text_head(text), dim=-1)
        return clip_loss(*codes, scale) + unused, None


def raw_batch(n_ranks: int) -> Tensor:
    """(pairs, 2 sides, RAW); some first entries are above 1.5, which empties that side's code."""
    torch.manual_seed(3)
    raw = torch.randn(n_ranks * LOCAL, 2, RAW)
    raw[1, 0, 0] = raw[-1, 1, 0] = 2.0
    return raw


class Received(TorchDispatchMode):
    """Bytes that this rank gets from others, by a ring, summed over every collective it joins."""

    def __init__(self, n_ranks: int) -> None:
        super().__init__()
        self.share = (n_ranks - 1) / n_ranks
        self.bytes: dict[str, float] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "c10d":
            name = func._schema.name
            tensors = args[0] if isinstance(args[0], (list, tuple)) else args[:2]
            largest = max(t.numel() * t.element_size() for t in tensors)
            passes = 2 if "allreduce" in name else 1
            self.bytes[name] = self.bytes.get(name, 0) + passes * self.share * largest
        return func(*args, **(kwargs or {}))


@dataclass
class Seen:
    """What one rank found; tensors are those after DDP's mean over ranks."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    received: dict[str, dict[str, float]] = field(default_factory=dict)
    refusal: str = ""
    far_apart: Tensor = field(default_factory=lambda: torch.empty(0))  # log-sum-exp over ranks


def run_rank(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, n_ranks = dist.get_rank(), dist.get_world_size()
    seen = Seen()
    raw = raw_batch(n_ranks)[rank * LOCAL : (rank + 1) * LOCAL]
    model = TinyClip()
    ranks = DistributedDataParallel(model)
    cases = [(f"{k} {b}", k, {"blocking": BLOCKINGS[b]}) for k in KINDS for b in BLOCKINGS]
    cases.append(("open_clip", "open_clip", {"rank": rank, "world_size": n_ranks}))
    for name, kind, how in cases:
        model.zero_grad()
        loss, seen.counts[name] = ranks(kind, raw, **how)
        loss.backward()
        seen.losses[name] = loss.detach()
        seen.gradients[name] = {
            k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None
        }
    for kind in KINDS:  # without DDP, whose own exchange is none of the loss's
        with Received(n_ranks) as received:
            model(kind, raw)[0].backward()
        seen.received[kind] = received.bytes
    seen.far_apart = Ranks().logsumexp(torch.tensor([1000.0 + rank, -1000.0]))
    try:
        model("infonce", raw[: LOCAL - (rank == n_ranks - 1)])
    except SparsightError as error:
        seen.refusal = str(error)
    torch.save(seen, folder / f"{rank}.pt")
    # A reducer that is the group's last owner joins gloo's thread with the interpreter's lock held, for which that
    # thread may wait to let go of its last gather: seen once in some hundred runs.
    del ranks
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """What each rank saw, of 2 and of 4."""
    open_clip_losses()  # skips here, where a skip is seen
    folder = tmp_path_factory.mktemp("ranks")
    LocalRanks(run_rank, folder, n=request.param).wait()
    return [_load(folder / f"{rank}.pt") for rank in range(request.param)]


def _load(path: Path) -> Seen:
    found: Seen = torch.load(path, weights_only=False)
    return found


def plain(kind: str, n_ranks: int) -> tuple[Tensor, dict[str, Tensor]]:
    model = TinyClip()
    loss, _ = model(f"plain {kind}", raw_batch(n_ranks))
    loss.backward()
    return loss.detach(), {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_every_parameters_gradient_equal_one_process_with_the_whole_batch(
    seen: list[Seen], kind: str, blocking: str
) -> None:
    loss, gradients = plain(kind, len(seen))
    assert len(gradients) == 10
    for rank in seen:
        assert relative_error(rank.losses[f"{kind} {blocking}"], loss) < 1e-5
        for name, gradient in gradients.items():
            found = rank.gradients[f"{kind} {blocking}"][name]
            assert relative_error(found, gradient) < 1e-5, name


def test_loss_and_gradients_equal_open_clips_on_as_many_ranks(seen: list[Seen]) -> None:
    for rank in seen:
        assert relative_error(rank.losses["infonce tiles"], rank.losses["open_clip"]) < 1e-5
        for name, gradient in rank.gradients["open_clip"].items():
            assert relative_error(rank.gradients["infonce tiles"][name], gradient) < 1e-5, name


def test_counts_are_those_of_the_whole_batch_on_every_rank(seen: list[Seen]) -> None:
    model, raw = TinyClip(), raw_batch(len(seen))
    with torch.no_grad():
        image, text = model.image_trunk(raw[:, 0]), model.text_trunk(raw[:, 1])
        image, text = image * (raw[:, :1, 0] < 1.5), text * (raw[:, 1:, 0] < 1.5)
        codes = model.image_head(image), model.text_head(text)
    for rank in seen:
        for kind in KINDS:
            found = rank.counts[f"{kind} tiles"]
            for counts, code in zip((found.image, found.text), codes, strict=True):
                assert float(counts.l0) == pytest.approx(float((code > 0).float().sum(1).mean()))
                assert int(counts.active_features) == int((code > 0).any(0).sum())
                assert int(counts.empty_rows) == int((code == 0).all(1).sum()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_exchanged_are_those_of_the_formula(seen: list[Seen], kind: str) -> None:
    n_ranks = len(seen)
    expected = exchange(n_ranks, LOCAL, WIDTHS[1], FEATURES, softmax=kind == "infonce")
    for rank in seen:
        assert sum(rank.received[kind].values()) == pytest.approx(expected.total, abs=4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_code_is_exchanged(seen: list[Seen], kind: str) -> None:
    codes = (len(seen) - 1) * LOCAL * FEATURES * 4  # what one tower's all-gather would bring
    assert 0 < sum(seen[0].received[kind].values()) < codes


def test_the_log_sum_exp_over_ranks_neither_overflows_nor_vanishes(seen: list[Seen]) -> None:
    n = len(seen)
    expected = [torch.arange(n).float().logsumexp(0) + 1000, torch.tensor(float(n)).log() - 1000]
    for rank in seen:
        torch.testing.assert_close(rank.far_apart, torch.stack(expected))


def test_ranks_with_unequal_batches_all_refuse_and_name_the_sizes(seen: list[Seen]) -> None:
    sizes = [LOCAL] * (len(seen) - 1) + [LOCAL - 1]
    for rank in seen:
        assert str(sizes) in rank.refusal and "drop" in rank.refusal


def test_bytes_of_the_papers_large_model_are_a_fraction_of_those_of_its_codes() -> None:
    # B = 32,768, D = 55,296, W = 768 on 64 ranks in bf16, by hand: 63/64 of B W (2 + 4) bytes, and
    # two all-reduces of B floats (2 x 2 x 63/64 x 131,072).
    found = exchange(64, 512, 768, 55_296, value_bytes=2)
    assert found.texts == 63 * 512 * 768 * 2
    assert found.text_gradients == 63 * 512 * 768 * 4
    assert found.column_sums == 2 * 258_048
    codes = 2 * 2 * 63 * 512 * 55_296 * 2  # both towers, there and back
    assert found.total * 90 < codes


def test_one_rank_exchanges_nothing() -> None:
    assert exchange(1, 512, 768, 55_296).total == 0
