"""The one error type that a user may see; every layer raises it or a subclass."""


class SparsightError(ValueError):
    """A refusal in words: what was given, what was expected, what to do.

    `param` names the offending key of a request (``"steering.edits[0].value"``) or flag, `code`
    is a stable snake_case word that programs may test for.
    """

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
