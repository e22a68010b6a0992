"""Image-text retrieval from unit codes, in blocks."""

import torch
from torch import Tensor


def recall(
    text: Tensor, image: Tensor, owner: Tensor, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """R@k both ways in [0, 1], higher is better: ``t2i@1``, ``i2t@1``, ...

    text: (texts, features), image: (images, features), unit rows. owner: (texts,) image of each.
    Text to image: the text's own image is among the k nearest. Image to text: any of its texts is.
    Ties count against us.
    """
    similarity = text @ image.T  # (texts, images)
    own = similarity.gather(1, owner[:, None])
    rank_of_image = (similarity >= own).sum(1) - 1
    mine = torch.nn.functional.one_hot(owner, image.shape[0]).bool()  # (texts, images)
    best = similarity.masked_fill(~mine, -torch.inf).amax(0)  # (images,)
    rank_of_text = ((similarity >= best) & ~mine).sum(0)
    out = {}
    for k in ks:
        out[f"t2i@{k}"] = float((rank_of_image < k).float().mean())
        out[f"i2t@{k}"] = float((rank_of_text < k).float().mean())
    return out
