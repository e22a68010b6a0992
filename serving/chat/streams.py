"""The streams of one request's `n` answers, read as one."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from serving.answer_stream import AnswerStream
from vlm.pipeline import Answer

Item = tuple[int, str | Answer]


class Streams:
    """Items of all streams as they come, each with the index of its answer."""

    def __init__(self, streams: Sequence[AnswerStream]) -> None:
        self._streams = streams

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Ends when all have ended. Raises what the first of them to fail raised."""
        items: asyncio.Queue[Item | Exception] = asyncio.Queue()

        async def read(i: int, stream: AnswerStream) -> None:
            try:
                async for item in stream:
                    items.put_nowait((i, item))
            except Exception as error:
                items.put_nowait(error)

        readers = [asyncio.create_task(read(i, one)) for i, one in enumerate(self._streams)]
        n_running = len(readers)
        try:
            while n_running:
                item = await items.get()
                if isinstance(item, Exception):
                    raise item
                n_running -= isinstance(item[1], Answer)
                yield item
        finally:
            for reader in readers:
                reader.cancel()

    def cancel(self) -> None:
        """Nobody listens any more."""
        for stream in self._streams:
            stream.cancel()
