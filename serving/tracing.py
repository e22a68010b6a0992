"""OpenTelemetry, where its SDK is installed and an exporter is configured; else nothing."""

import os
from importlib.util import find_spec
from typing import Any

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def find_tracer() -> Any:
    """A tracer that sends spans to the endpoint of the environment; None without one.

    Raises SparsightError where an endpoint is set and the packages that would reach it are missing:
    traces that were asked for must not be lost in silence.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    if not (_installed("opentelemetry.sdk") and _installed("opentelemetry.exporter.otlp.proto")):
        from sparse_encoder.errors import SparsightError

        raise SparsightError(
            f"{' or '.join(ENDPOINTS)} is set, but OpenTelemetry is not installed; `pip install "
            "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http`, or unset it"
        )
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "sparsight")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return trace.get_tracer("sparsight")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
