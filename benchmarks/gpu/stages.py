"""The stages of `make gpu` in their order: what is worth most comes first, since time may run out."""

from __future__ import annotations

from benchmarks.gpu.stage import Stage

STAGES = (
    Stage("facts", "device, driver, versions", 60, "benchmarks.gpu.facts:facts"),
    Stage("poisoned", "random numbers after a recording that failed", 30, "benchmarks.gpu.correct:poisoned"),
    Stage("recording", "steps are recorded, errors raised", 40, "benchmarks.gpu.correct:recording"),
    Stage("steps", "steps by engine, precision and layout", 100, "benchmarks.gpu.steps:steps"),
    Stage("lockstep", "1, 8 and 32 seeds as one", 60, "benchmarks.gpu.together:lockstep"),
    Stage("tests", "pytest -m gpu, warnings are errors", 150, "benchmarks.gpu.correct:tests"),
    Stage("bytes", "a study twice, the same bytes", 90, "benchmarks.gpu.correct:same_bytes"),
    Stage("study", "a study's time, from a few levels", 80, "benchmarks.gpu.runs:study"),
    Stage("processes", "1, 4 and 8 processes, without and with MPS", 110, "benchmarks.gpu.together:processes"),
    Stage("ablations", "what parts of a step and an evaluation cost", 30, "benchmarks.gpu.steps:ablations"),
    Stage("breakdown", "share of a run in which kernels are at work", 40, "benchmarks.gpu.runs:breakdown"),
    Stage("growth", "memory after many replays and trainings", 20, "benchmarks.gpu.runs:growth"),
    Stage("memory", "out of memory is told as that", 20, "benchmarks.gpu.runs:memory"),
    Stage("stopped", "each optimizer, stopped and continued", 150, "benchmarks.gpu.correct:stopped"),
    Stage("bench", "lottery bench --device cuda", 60, "benchmarks.gpu.runs:bench"),
)
