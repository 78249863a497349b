"""Counters and histograms of the server, exported in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.033, 0.05, 0.1, 0.25, 1.0)
PERSON_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of one server, in a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = own = CollectorRegistry()
        self._gauge = lambda name, help_text: Gauge(name, help_text, registry=own)

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"kinegraph_{name}", help_text, labels, registry=own)

        def histogram(name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"kinegraph_{name}", help_text, buckets=buckets, registry=own)

        self.frames = counter("frames", "Frames answered.")
        self.answers = counter("answers", "Answers sent.")
        self.dropped = counter("dropped_answers", "Answers dropped because the client was slow.")
        self.rejected = counter("rejected", "Requests and messages rejected.", "status")
        self.predictions = counter("predictions", "Clips answered.")
        self.lost_workers = counter("lost_workers", "Worker processes that exited unexpectedly.")
        self.images = counter("images", "Images processed.")
        self.latency = histogram(
            "frame_latency_seconds", "Time from a frame's arrival to its answer.", LATENCY_BUCKETS_S
        )
        self.batch_seconds = histogram(
            "batch_seconds", "Processing time of a batch of frames.", LATENCY_BUCKETS_S
        )
        self.batch_persons = histogram("batch_persons", "Persons in a batch.", PERSON_BUCKETS)

    def add_gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed on every export."""
        self._gauge(f"kinegraph_{name}", help_text).set_function(value)

    def count_rejection(self, status: int) -> None:
        """Count a rejected request or message by its HTTP status."""
        self.rejected.labels(int(status)).inc()

    def observe_batch(self, persons: int, seconds: float) -> None:
        """Record the size and processing time of a batch."""
        self.batch_persons.observe(persons)
        self.batch_seconds.observe(seconds)

    def export(self) -> bytes:
        """Return all metrics as text."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
