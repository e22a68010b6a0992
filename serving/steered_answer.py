"""The last look at an answer: is it the one that was asked for, steered as it was asked for?

Caches, retries and a second engine stand between a request and its answer. Whatever goes wrong in
them, an unsteered answer must not go out as a steered one, nor one request's for another's.
"""

from serving.errors import HttpError
from vlm.pipeline import Answer, Request
from vlm.template import chat_images


class UnsteeredAnswerError(HttpError):
    """A fault of ours, caught before the client could take the answer for what it is not."""

    status = 500
    code = "unsteered_answer"


def check_steered(request: Request, answer: Answer, fingerprint: str) -> Answer:
    """The answer. Raises UnsteeredAnswerError unless its receipt speaks of this very request."""
    receipt = answer.receipt
    if receipt is None:
        if request.is_steered or request.want_receipt:
            raise _fault("it came without a receipt")
        return answer
    if receipt.fingerprint != fingerprint:
        raise _fault("it is another model's")
    if receipt.images != tuple(image.sha256 for image in chat_images(request.messages)):
        raise _fault("it is of other photographs")
    n = len(request.edits)
    n_recipes = (request.recipe is not None) + (request.steer_from is not None)
    others = len(receipt.edits) - n
    if receipt.edits[:n] != request.edits or len(receipt.recipes) < n_recipes:
        raise _fault("its edits are not those of the request")
    if others and not n_recipes:
        raise _fault("it has edits that the request has not")
    return answer


def _fault(why: str) -> UnsteeredAnswerError:
    return UnsteeredAnswerError(
        f"an answer was made that is not the one you asked for ({why}), and was held back; "
        "send the request again"
    )
