"""Peak rates and the description of the machine."""

from __future__ import annotations

import platform

import torch

from kinegraph.bench import machine

CACHED_PEAK_RATES = machine._cached_peak_rates


def test_rates_are_those_of_the_fastest_trial(monkeypatch):
    seconds = iter([0.5, 0.25, 2.0, 1.0, 4.0, 8.0])

    def time_call(call):
        call()
        return next(seconds)

    monkeypatch.setattr(machine, "time_call", time_call)
    monkeypatch.setattr(machine, "_MATRIX_SIZE", 64)
    monkeypatch.setattr(machine, "_COPY_BYTES", 1 << 16)
    monkeypatch.setattr(machine, "_MIN_SECONDS", 0.0)
    assert machine._measure_gemm(torch.float32) == 2 * 64**3 / 0.25
    assert machine._measure_copy() == 2 * (1 << 16) / 4.0


def test_rates_are_measured_once_for_a_type_and_a_number_of_threads(monkeypatch):
    measured = []
    monkeypatch.setattr(machine, "_cached_peak_rates", CACHED_PEAK_RATES)
    monkeypatch.setattr(machine, "_measure_gemm", lambda dtype: measured.append(dtype) or 1.0)
    monkeypatch.setattr(machine, "_measure_copy", lambda: 1.0)
    CACHED_PEAK_RATES.cache_clear()
    rates = machine.measure_peak_rates(torch.float32)
    assert machine.measure_peak_rates(torch.float32) is rates
    assert machine.measure_peak_rates(torch.bfloat16) is not rates
    assert measured == [torch.float32, torch.bfloat16]
    CACHED_PEAK_RATES.cache_clear()


def test_the_description_has_no_host_name():
    text = machine.describe_machine()
    assert f"PyTorch {torch.__version__}" in text
    assert f"{torch.get_num_threads()} threads" in text
    assert ("no bf16 units" in text) is not machine.has_bf16()
    assert platform.node() not in text.split(", ")


def test_without_linux_list_of_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    assert machine.has_bf16() is False
    assert "cores" in machine.describe_machine()
