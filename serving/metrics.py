"""What Prometheus reads at ``/metrics``: counts and seconds, and nothing of what anybody sent.

Label values are words of ours (route templates, error codes, operations), never a client's, so that
the number of series is fixed.
"""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from vlm.watch import Watch

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One server's metrics, in a registry of their own. Safe to share between threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "sparsight_requests",
            "Requests answered, refused ones too.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "sparsight_request_seconds",
            "From a request's arrival to its answer's last byte.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.refusals = Counter(
            "sparsight_refusals",
            "Requests refused or failed, by the code in their error.",
            ["reason"],
            registry=registry,
        )
        self.departures = Counter(
            "sparsight_departures", "Clients that left before their answer.", registry=registry
        )
        self.queue_seconds = Histogram(
            "sparsight_queue_seconds",
            "What a request waited for the model.",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "sparsight_batch_size",
            "Requests answered as one batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.encode_seconds = Histogram(
            "sparsight_encode_seconds",
            "The encoder's time for one image.",
            buckets=SECONDS,
            registry=registry,
        )
        self.code_cache = Counter(
            "sparsight_code_cache",
            "Images whose codes were kept (hit) or had to be made (miss).",
            ["result"],
            registry=registry,
        )
        self.llm_seconds = Histogram(
            "sparsight_llm_seconds",
            "The language model's time for one batch, or for one stream.",
            buckets=SECONDS,
            registry=registry,
        )
        self.llm_tokens = Counter("sparsight_llm_tokens", "Tokens written.", registry=registry)
        self.edits = Counter("sparsight_edits", "Edits made.", ["op"], registry=registry)
        self.open_requests = Gauge(
            "sparsight_open_requests", "Accepted and not yet answered.", registry=registry
        )
        self.ready = Gauge("sparsight_ready", "1 while /ready says yes.", registry=registry)
        for op in ("ablate", "clamp", "scale", "add"):
            self.edits.labels(op)
        for result in ("hit", "miss"):
            self.code_cache.labels(result)

    def count_kept(self, pipeline: Any) -> None:
        """Has the hits and misses of what `pipeline` keeps from here on, if it keeps anything."""
        if hasattr(pipeline, "kept"):
            self.registry.register(_KeptCounts(pipeline))

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)


class _KeptCounts(Collector):
    """Reads a pipeline's own counts whenever it is asked, since a Kept tells nobody of a hit."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "sparsight_cache",
            "What was asked of each cache and was there (hit) or had to be made (miss).",
            labels=["cache", "result"],
        )
        for name, values in self._pipeline.kept.items():
            family.add_metric([name, "hit"], values.hits)
            family.add_metric([name, "miss"], values.misses)
        yield family


class PipelineWatch(Watch):
    """Counts what a pipeline does."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def encoded(self, seconds: float) -> None:
        self._metrics.encode_seconds.observe(seconds)
        self._metrics.code_cache.labels("miss").inc()

    def recalled(self) -> None:
        self._metrics.code_cache.labels("hit").inc()

    def edited(self, op: str) -> None:
        self._metrics.edits.labels(op).inc()

    def generated(self, seconds: float, n_tokens: int) -> None:
        self._metrics.llm_seconds.observe(seconds)
        self._metrics.llm_tokens.inc(n_tokens)
