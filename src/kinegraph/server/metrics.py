"""What the server counts, as text for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

SECONDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.033, 0.05, 0.1, 0.25, 1.0)
PERSONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = own = CollectorRegistry()
        self.frames = Counter("kinegraph_frames", "Frames that were answered.", registry=own)
        self.answers = Counter("kinegraph_answers", "Answers that were sent.", registry=own)
        self.dropped = Counter(
            "kinegraph_dropped_answers", "Answers that a slow client did not take.", registry=own
        )
        self.refused = Counter(
            "kinegraph_refused", "What was refused, by status.", ["status"], registry=own
        )
        self.predictions = Counter("kinegraph_predictions", "Clips answered.", registry=own)
        self.pictures = Counter("kinegraph_pictures", "Pictures looked at.", registry=own)
        self.seconds = Histogram(
            "kinegraph_answer_seconds",
            "From a frame's arrival to its answer.",
            buckets=SECONDS,
            registry=own,
        )
        self.work = Histogram(
            "kinegraph_round_seconds", "Work on a round of frames.", buckets=SECONDS, registry=own
        )
        self.together = Histogram(
            "kinegraph_round_persons", "Persons in a round.", buckets=PERSONS, registry=own
        )
        self._gauge = lambda name, about: Gauge(name, about, registry=own)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when somebody looks."""
        self._gauge(f"kinegraph_{name}", about).set_function(value)

    def observe_round(self, persons: int, seconds: float) -> None:
        """So many persons were worked on in so many seconds."""
        self.together.observe(persons)
        self.work.observe(seconds)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
