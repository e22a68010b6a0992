"""How many threads torch uses, made known to a thread before it computes anything.

A number that was set (`torch.set_num_threads`) reaches a new Python thread at the first operation of
torch's own that asks for it; a product of matrices or a convolution may come before, and runs on as
many as the machine has. Sums in another order have other last bits: the first photograph of such a
thread would have a code that is never seen again, and a receipt that cannot be verified.
"""

import torch


def settle_torch_threads() -> None:
    """The number that is set holds in this thread from here on. Nanoseconds, where it does so already."""
    torch.get_num_threads()
