"""Features that stay silent: dead over a window of pairs, not only in one batch.

One batch of a few hundred pairs leaves rare features out, and counting over many would need a
pass or a mask of every step. The last trunk outputs are kept instead, which are narrow, and the
heads read them when the tracker asks.
"""

from collections import deque

import torch
from accelerate import Accelerator
from torch import Tensor

from sparse_encoder.towers.model import SparseClip

_ROWS = 256  # whose codes are held at a time


class SilentFeatures:
    """The last trunk outputs of this rank, both towers'."""

    def __init__(self, rows: int) -> None:
        """rows: pairs to keep at least; whole batches are kept, so it may be more."""
        self.rows = rows
        self._parts: deque[tuple[Tensor, Tensor]] = deque()

    def __len__(self) -> int:
        """Pairs that are kept."""
        return sum(len(image) for image, _ in self._parts)

    def add(self, image: Tensor, text: Tensor) -> None:
        """image: (batch, image width), text: (batch, text width), of one step."""
        self._parts.append((image.detach().clone(), text.detach().clone()))
        while len(self) - len(self._parts[0][0]) >= self.rows:
            self._parts.popleft()

    @torch.no_grad()
    def count(self, clip: SparseClip, accelerator: Accelerator) -> tuple[int, int]:
        """Image features, text features that are silent on the kept pairs of all ranks.

        By the heads as they are now, on the trunk outputs as they were. All ranks call together.
        """
        was_training = clip.training
        clip.eval()  # batch_topk would learn its threshold from these rows
        active = []
        for head, outputs in zip(
            (clip.image_head, clip.text_head), zip(*self._parts, strict=True), strict=True
        ):
            found = torch.zeros(clip.features, device=head.weight.device)
            for part in outputs:
                for rows in part.to(head.weight.dtype).split(_ROWS):
                    found += (head(rows) != 0).any(0)
            active.append(found)
        clip.train(was_training)
        both = accelerator.reduce(torch.stack(active), "sum")
        image, text = (both == 0).sum(1).tolist()
        return image, text
