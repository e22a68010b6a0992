"""What the kill test runs in a process of its own."""

import os
from pathlib import Path

from serving.batch.journal import Journal
from serving.batch.plan import Plan
from serving.batch.run import Pace, caption_all
from serving.batch.sinks.parquet import ParquetParts
from serving.batch.sinks.shards import WebdatasetShards
from serving.batch.sinks.sidecar import Sidecars
from serving.batch.sources import open_sources
from tests.tiny_model import tiny_pipeline


def caption_album(folder: str, out: str, workers: int) -> None:
    """Everything that `sparsight caption` does to a folder, with small parts and shards."""
    os.chdir(folder)
    pipeline = tiny_pipeline()
    plan = Plan(pipeline.fingerprint, max_tokens=4)
    to = Path(out)
    with Journal(to / "o.jsonl", plan) as journal:
        sinks = [
            ParquetParts(to / "parquet", plan, journal, rows=7),
            WebdatasetShards(to / "shards", journal, samples=5),
            Sidecars("txt"),
        ]
        pace = Pace(batch_size=3, workers=workers)
        for _ in caption_all(
            open_sources(["album"]), plan, pipeline, journal=journal, sinks=sinks, pace=pace
        ):
            pass
        for sink in sinks:
            sink.close()
