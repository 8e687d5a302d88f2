"""The floor plan: a module imports only from floors below its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "caa_harness": 0,
    "caa_harness.errors": 0,
    "caa_harness.atomic": 0,
    "caa_harness.shipped": 0,
    "caa_harness.organism": 0,
    "caa_harness.strict_json": 1,
    "caa_harness.statistics": 1,
    "caa_harness.spec": 2,
    "caa_harness.prompts": 2,
    "caa_harness.engines": 3,
    "caa_harness.vectors": 4,
    "caa_harness.evaluation": 5,
    "caa_harness.engines.fake": 5,
    "caa_harness.engines.local": 6,
    "caa_harness.engines.replay": 6,
    "caa_harness.scores": 6,
    "caa_harness.verdict": 8,
    "caa_harness.report": 9,
    "caa_harness.pipeline": 10,
    "caa_harness.published": 10,
    "caa_harness.cli": 11,
    "pytest_caa": 11,
}
