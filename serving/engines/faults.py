"""How an engine fails, in our own words; what it said itself is logged at level debug alone."""

from serving.errors import HttpError


class EngineUnavailableError(HttpError):
    """No engine could be reached: the request was not begun and may be sent again."""

    status = 503
    code = "engine_unavailable"
    headers = {
        "retry-after": "5"
    }  # seconds; vLLM takes half a minute to start, health is asked more often


class EngineBusyError(HttpError):
    """The engine takes no more."""

    status = 503
    code = "overloaded"
    headers = {"retry-after": "2"}


class EngineFailedError(HttpError):
    """The engine broke off, or gave what is no answer to the request. Never retried by us."""

    status = 502
    code = "engine_failed"


class EngineRefusedError(HttpError):
    """The engine found fault with a request that passed our own checks."""

    status = 400
    code = "engine_refused"


def unavailable() -> EngineUnavailableError:
    return EngineUnavailableError(
        "the language model's engine is not up at the moment; send the request again in a few "
        "seconds"
    )


def broke_off() -> EngineFailedError:
    return EngineFailedError(
        "the language model's engine broke off before the answer was whole; send the request again"
    )


def no_answer(why: str) -> EngineFailedError:
    return EngineFailedError(f"the language model's engine gave no sound answer: {why}")
