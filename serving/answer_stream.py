"""One streamed answer on its way from whatever engine makes it to the client who reads it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from serving.errors import DeadlineError
from vlm.pipeline import Answer

Item = str | Answer | Exception


class AnswerStream:
    """Text pieces, then the Answer, or what ended it early; has to be read or cancelled.

    Belongs to the event loop in which it was made. What a slow client has not taken yet waits here:
    an answer is at most `max_tokens` pieces. on_cancel: called once, on that loop, when nobody
    listens any more; after the end it does no harm.
    """

    def __init__(self, deadline_s: int, on_cancel: Callable[[], object] = lambda: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self._until = self._loop.time() + deadline_s
        self._on_cancel = on_cancel
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether nobody listens any more; may be asked from any thread."""
        return self._cancelled.is_set()

    async def __aiter__(self) -> AsyncIterator[str | Answer]:
        """Each item as it is made. Raises what was put in as an exception, and DeadlineError."""
        while True:
            try:
                async with asyncio.timeout_at(self._until):
                    item = await self._items.get()
            except TimeoutError:
                self.cancel()
                raise DeadlineError.of(self._deadline_s) from None
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Answer):
                return

    def cancel(self) -> None:
        """Nobody listens any more: the rest is not generated. On the stream's own loop."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            self._on_cancel()

    def put(self, item: Item) -> None:
        """The next item, from any thread; after an Answer or an exception nobody looks."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop was closed under it
            self._cancelled.set()
