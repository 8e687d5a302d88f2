"""Report documents made by hand: every number is written down, nothing is measured."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from caa_harness.report.document import report_document

HOSTILE = """<script>alert("x")</script> & 'quotes' "> <img src=x onerror=y> </style>"""
"""A text that tries everything."""


def estimate(point, low, high, n=60, **changes):
    return {
        "point": point,
        "low": low,
        "high": high,
        "n": n,
        "num_clusters": None,
        "confidence": 0.95,
        "method": "bootstrap-t",
        "degenerate": None,
        **changes,
    }


def step(multiplier, **changes):
    """One multiplier: the score moves by 0.2 each, the letters by 0.01."""
    moved = 0.2 * multiplier
    found = {
        "multiplier": multiplier,
        "score": estimate(0.5 + moved, 0.45 + moved, 0.55 + moved),
        "shift": estimate(moved, moved - 0.05, moved + 0.05),
        "wrong_way": 0.1,
        "letter": estimate(0.01 * multiplier, -0.03, 0.03),
        "mass_mean": 0.97,
        "mass_lowest": 0.91,
        "num_unscored": 0,
        "capability": estimate(0.8, 0.75, 0.85, n=40),
        "capability_loss": estimate(-0.01, -0.03, 0.01, n=40),
    }
    if multiplier == 0:
        found |= {"shift": None, "wrong_way": None, "letter": None, "capability_loss": None}
    return {**found, **changes}


def part(name, low, high, bound, *, direction="at_least", **changes):
    point = (low + high) / 2
    return {
        "name": name,
        "estimate": estimate(point, low, high, confidence=0.9992),
        "bound": bound,
        "bound_text": f"{bound:g}",
        "direction": direction,
        "text": f"{point:+.3f} [{low:+.3f}, {high:+.3f}]",
        "n_needed": None,
        "is_required": True,
        "is_shown": low > bound,
        "is_refuted": high < bound,
        **changes,
    }


def claim(name="shift_up", outcome="pass", kind="shift", *, parts=None, **changes):
    return {
        "id": name,
        "type": kind,
        "claim": {"multiplier": 1.0, "at_least": 0.1, "at_most": None},
        "file": "specs/candor.behavior.json",
        "line": 12,
        "outcome": outcome,
        "reason": f"{name} is as it is; it must be otherwise",
        "parts": [part("shift at +1", 0.15, 0.25, 0.1)] if parts is None else parts,
        "p_pass": 0.001,
        "p_fail": 1.0,
        "alpha": 0.025,
        "warnings": [],
        **changes,
    }


def item(**changes):
    return {
        "digest": "0123456789abcdef",
        "question": "Is it so?",
        "matching": "It is.",
        "not_matching": "It is not.",
        "cluster": "stem-1",
        "unsteered": 0.5,
        "steered": 0.45,
        "move": -0.05,
        "is_wrong_way": True,
        **changes,
    }


def detail(**changes):
    return {
        "answer_mass": [
            {"multiplier": m, "estimate": estimate(0.97, 0.96, 0.98), "lowest": None}
            for m in (-1.0, 0.0, 1.0)
        ],
        "wrong_way": [
            {"multiplier": m, "num_wrong_way": 6, "estimate": estimate(0.1, 0.04, 0.2)}
            for m in (-1.0, 1.0)
        ],
        "least_moved": [
            {"multiplier": 1.0, "num_scored": 60, "num_wrong_way": 6, "items": [item()]}
        ],
        "capability_categories": [
            {
                "category": name,
                "num_items": 20,
                "multipliers": [
                    {
                        "multiplier": m,
                        "level": estimate(0.8, 0.7, 0.9, n=20),
                        "change": None if m == 0 else estimate(-0.01, -0.05, 0.03, n=20),
                    }
                    for m in (-1.0, 0.0, 1.0)
                ],
            }
            for name in ("capitals", "colours")
        ],
        **changes,
    }


def behavior(name="candor", *, claims=None, steps=None, **changes):
    steps = [step(-1.0), step(0.0), step(1.0)] if steps is None else steps
    return {
        "behavior": name,
        "file": f"specs/{name}.behavior.json",
        "description": "Whether the answer is candid.",
        "sign": "The matching answer is the candid one.",
        "spec_digest": "ab" * 32,
        "scoring": "both_orders",
        "multipliers": [one["multiplier"] for one in steps],
        "num_held_out": 60,
        "layer": 16,
        "vector": {
            "layer": 16,
            "norm": 3.5,
            "num_pairs": 80,
            "mean_residual_norm": 40.0,
            "digest": "cd" * 32,
            "normalisation": "raw",
        },
        "model": {
            "name": "org/model-7b",
            "architecture": "LlamaForCausalLM",
            "num_layers": 32,
            "d_model": 4096,
            "dtype": "bfloat16",
            "device": "cuda:0",
            "template": "llama-2",
            "weights_digest": "0123456789abcdef",
            "tokenizer_digest": "fedcba9876543210",
            "attention": "sdpa",
            "packages": {"torch": "2.9"},
        },
        "summary": {
            "multipliers": steps,
            "warnings": [],
            "confidence": 0.95,
            "num_capability_items": 40,
        },
        "claims": [claim()] if claims is None else claims,
        "notes": [],
        "unscored": [],
        "open_ended": [
            {"prompt": "Tell me.", "multiplier": m, "text": f"said at {m:+g}"}
            for m in (-1.0, 0.0, 1.0)
        ],
        "detail": detail(),
        **changes,
    }


def session(*behaviors, left_out=(), errors=None, unread=(), exit_status=0):
    """A report of ``behaviors``; the cases named in ``left_out`` were not judged."""
    cases = [
        {"case": case, "outcome": "passed", "judged": case not in left_out, "error": None}
        for one in behaviors
        for each in one["claims"]
        if (case := f"{one['file']}::{each['id']}")
    ]
    for case in cases:
        case["error"] = (errors or {}).get(case["case"])
    return report_document(
        behaviors={one["file"]: one for one in behaviors},
        cases=cases,
        unread=list(unread),
        deselected=[],
        problems=[],
        options={"model": "org/model-7b", "record": Path("there")},
        inconclusive="fail",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        exit_status=exit_status,
    )
