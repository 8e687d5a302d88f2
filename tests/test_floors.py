"""The floor plan: a module imports only from floors below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module takes the floor of its longest prefix; modules of one package are one room.
FLOORS = {
    "caa_harness": 0,
    "caa_harness.errors": 1,
    "caa_harness.atomic": 2,
    "caa_harness.shipped": 2,
    "caa_harness.organism": 2,
    "caa_harness.strict_json": 2,
    "caa_harness.statistics": 2,
    "caa_harness.spec": 4,
    "caa_harness.prompts": 4,
    "caa_harness.authoring": 5,
    "caa_harness.engines": 5,
    "caa_harness.measurements": 6,
    "caa_harness.vectors": 6,
    "caa_harness.engines.fake": 7,
    "caa_harness.engines.local": 7,
    "caa_harness.evaluation": 8,
    "caa_harness.scores": 9,
    "caa_harness.evidence": 10,
    "caa_harness.engines.replay": 9,
    "caa_harness.claims": 11,
    "caa_harness.verdict": 12,
    "caa_harness.report": 13,
    "caa_harness.selfcheck": 13,
    "caa_harness.pipeline": 14,
    "caa_harness.published": 14,
    "caa_harness.cli": 15,
    "pytest_caa": 15,
}

# Heavy packages and the only modules that may name them.
ROOMS = {
    "torch": ("caa_harness.engines.local", "caa_harness.organism"),
    "transformers": ("caa_harness.engines.local", "caa_harness.prompts", "caa_harness.organism"),
}

# What the shell may not import before a case needs it.
HEAVY = ("torch", "transformers", "numpy", "scipy", "jaxtyping", "jsonschema", "rich.table")


def module_files() -> dict[str, Path]:
    """Every module of the project, by its dotted name."""
    found = {}
    for base, packages in ((ROOT, "caa_harness"), (ROOT / "plugins", "pytest_caa")):
        for path in sorted((base / packages).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str | None:
    """The entry of the plan that a module belongs to."""
    while module and module not in FLOORS:
        module = module.rpartition(".")[0]
    return module or None


def imports_of(source: str) -> set[str]:
    """Every module that a source imports when it runs (type-checking blocks left out)."""
    tree = ast.parse(source)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def climbs(module: str, source: str) -> list[str]:
    """Imports of ``module`` that are not below it."""
    own = room(module)
    assert own is not None
    if own == "caa_harness":  # the front page names everything, and fetches it late
        return []
    modules = module_files()
    rooms = {room(name) for name in imports_of(source) if name in modules}
    return sorted(r for r in rooms if r and r != own and FLOORS[r] >= FLOORS[own])


@pytest.mark.parametrize("module", sorted(module_files()))
def test_imports_only_go_down(module):
    assert climbs(module, module_files()[module].read_text(encoding="utf-8")) == []


def test_an_import_that_goes_up_is_seen():
    assert climbs("caa_harness.spec", "from caa_harness.verdict import judge") == [
        "caa_harness.verdict"
    ]


def test_an_import_from_the_same_floor_is_seen():
    assert climbs("caa_harness.spec", "import caa_harness.prompts") == ["caa_harness.prompts"]


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_heavy_packages_stay_in_their_rooms(package):
    guests = {
        name
        for name, path in module_files().items()
        if any(
            found == package or found.startswith(package + ".")
            for found in imports_of(path.read_text(encoding="utf-8"))
        )
    }

    strangers = {name for name in guests if not name.startswith(ROOMS[package])}

    assert guests, f"nothing imports {package}: the test looks at the wrong files"
    assert strangers == set()


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter holds after ``statement``."""
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("module", ["pytest_caa", "caa_harness", "caa_harness.spec"])
def test_light_modules_import_nothing_heavy(module):
    assert loaded_after(f"import {module}") == set()


def test_a_heavy_import_is_seen():
    assert "numpy" in loaded_after("import caa_harness.engines")
