"""Behavior specs: one JSON file in, one frozen ``BehaviorSpec`` out.

The walk starts here.  A spec names a behaviour, the contrastive pairs its
steering vector is computed from, the held-out questions it is measured on, and
the claims the measurement must support.  Reading a spec touches no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caa_harness.errors import SpecError
from caa_harness.spec.rules import (
    FILE_SUFFIX,
    Row,
    claim_id,
    default_capability_multipliers,
    find_file,
    fold,
    format_multiplier,
    rule_problems,
)
from caa_harness.spec.schema import schema_problems, schema_text
from caa_harness.spec.types import (
    AnswerMassClaim,
    AsPublished,
    BehaviorSpec,
    CapabilityClaim,
    CapabilityItem,
    Claim,
    ContrastivePair,
    DoseResponseClaim,
    HeldOutQuestion,
    LayerRule,
    Letter,
    LetterPartClaim,
    LevelClaim,
    NullClaim,
    ShiftClaim,
    SourcePosition,
    SpecificityClaim,
    digest_json,
    spec_json,
)
from caa_harness.strict_json import UNUSABLE, Document, Problem, read_json, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "FILE_SUFFIX",
    "AnswerMassClaim",
    "AsPublished",
    "BehaviorSpec",
    "CapabilityClaim",
    "CapabilityItem",
    "Claim",
    "ContrastivePair",
    "DoseResponseClaim",
    "HeldOutQuestion",
    "LayerRule",
    "Letter",
    "LetterPartClaim",
    "LevelClaim",
    "NullClaim",
    "ShiftClaim",
    "SourcePosition",
    "SpecErrors",
    "SpecificityClaim",
    "claim_case_id",
    "family_size",
    "format_multiplier",
    "load_spec",
    "load_specs",
    "schema_text",
    "sibling_specs",
    "spec_json",
    "spec_warnings",
]

_DEFAULT_CONFIDENCE: Final = 0.95
_DEFAULT_RESAMPLES: Final = 9999
_DEFAULT_DRAWS: Final = 39
_FEW_HELD_OUT: Final = 10
_NOT_MEASURED: Final = ("description", "sign", "claims", "confidence", "resamples", "family")
"""Prose, and how numbers are judged: the same measurements serve other claims as well."""
_MOST_SHOWN: Final = 50
_SECTIONS: Final = {
    "pairs": "pair",
    "held_out": "held_out_question",
    "capability": "capability_item",
}


class SpecErrors(SpecError):  # noqa: N818  (it is several)
    """Everything that is wrong with a spec and its files, in the order of the text."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems
        first = problems[0]
        super().__init__(first.found, where=first.where, remedy=first.remedy)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """List them, one message each."""
        shown = "\n".join(map(str, self.problems[:_MOST_SHOWN]))
        more = len(self.problems) - _MOST_SHOWN
        return f"{shown}\n... and {more} more problems" if more > 0 else shown

    def __reduce__(self) -> tuple[object, ...]:
        """Make the error again on the other side of a process boundary."""
        return (SpecErrors, (self.problems,))


def load_spec(path: Path) -> BehaviorSpec:
    """Read one spec file; see ``behavior_spec.schema.json`` for its keys.

    Raises
    ------
    SpecErrors
        With everything that is wrong with the file and the files that it names.
    """
    path = Path(path)
    document = _read(path)
    problems = [*document.problems, *schema_problems(document)]
    if _is_other_version(document):
        # Its keys may mean other things, so only the version and the JSON can be wrong.
        version = [one for one in problems if one.pointer == "/schema_version"]
        raise SpecErrors(_sorted([*document.problems, *version], path))
    if isinstance(document.value, dict):
        sections = {
            name: _rows(document, name, definition, problems)
            for name, definition in _SECTIONS.items()
        }
        problems += rule_problems(document, sections)
    if problems:
        raise SpecErrors(_sorted(problems, path))
    return _build(document, sections)


def _sorted(problems: Sequence[Problem], path: Path) -> list[Problem]:
    """Each problem once, as a reader meets them: those of the spec itself first."""
    others = sorted({problem.path for problem in problems} - {path})
    order = {one: place for place, one in enumerate([path, *others])}
    unique = {(one.path, one.line, one.column, one.found): one for one in problems}
    return sorted(unique.values(), key=lambda one: (order[one.path], one.line, one.column))


def load_specs(folder: Path) -> list[BehaviorSpec]:
    """Read every ``*.behavior.json`` of a folder, in the order of their names.

    Raises
    ------
    SpecError
        When there is no such folder, or nothing in it.
    SpecErrors
        With everything that is wrong with any of the files.
    """
    specs: list[BehaviorSpec] = []
    problems: list[Problem] = []
    for path in _spec_files(Path(folder)):
        try:
            specs.append(load_spec(path))
        except SpecErrors as errors:
            problems += errors.problems
    if problems:
        raise SpecErrors(problems)
    return specs


def family_size(spec: BehaviorSpec) -> int:
    """How many spec files of the folder name this spec's family (1 where it names none).

    Raises
    ------
    SpecErrors
        When a file of the folder is not JSON, so that its family cannot be known.
    """
    if spec.family is None:
        return 1
    size = 0
    for path in _spec_files(spec.path.parent):
        document = _read(path)
        if document.problems:
            raise SpecErrors(document.problems)
        value = document.value
        size += isinstance(value, dict) and value.get("family") == spec.family
    return size


def sibling_specs(
    spec: BehaviorSpec, *, load: Callable[[Path], BehaviorSpec] = load_spec
) -> dict[str, BehaviorSpec]:
    """Load the other specs of the folder, by behavior, for ``specificity`` claims.

    ``load`` may remember what it has read already.

    Raises
    ------
    SpecError
        When a specificity claim of ``spec`` names a behavior that the folder does
        not have, or needs others and there are none.
    SpecErrors
        When one of the others cannot be read.
    """
    own = spec.path.resolve()
    siblings = {
        other.behavior: other
        for other in map(
            load, (one for one in _spec_files(spec.path.parent) if one.resolve() != own)
        )
    }
    for claim in spec.claims:
        if not isinstance(claim, SpecificityClaim):
            continue
        missing = [name for name in claim.against if name not in siblings]
        if missing or not siblings:
            raise SpecError(
                f"the claim compares with {', '.join(missing) or 'other behaviors'}, "
                "but the folder has no such spec",
                where=str(claim.position),
                remedy=f"name behaviors of the folder ({', '.join(siblings)})"
                if siblings
                else "add the spec of another behavior to the folder, or take the claim away",
            )
    return siblings


def claim_case_id(claim: Claim) -> str:
    """Name of the claim's test case, unique in its file."""
    return claim.id


def spec_warnings(spec: BehaviorSpec) -> tuple[str, ...]:
    """Name what is allowed in a spec, but makes a result weaker than it looks."""
    warnings = []
    num_held_out = len(spec.held_out)
    if num_held_out < _FEW_HELD_OUT:
        warnings.append(
            f"only {num_held_out} held-out questions; few claims can be decided on "
            f"fewer than {_FEW_HELD_OUT}"
        )
    asked = {fold(pair.question) for pair in spec.pairs}
    overlap = sum(fold(question.question) in asked for question in spec.held_out)
    if overlap:
        warnings.append(f"{overlap} of {num_held_out} held-out questions occur among the pairs")
    stems: dict[str, list[str | None]] = {}
    for question in spec.held_out:
        stems.setdefault(fold(question.question), []).append(question.cluster)
    repeated = [
        one for one in stems.values() if len(one) > 1 and (None in one or len(set(one)) > 1)
    ]
    if repeated:
        warnings.append(
            f"{len(repeated)} held-out questions are asked more than once without a common "
            "cluster, so they count as independent"
        )
    return tuple(warnings)


def _read(path: Path) -> Document:
    """Read one spec file's JSON; a file that cannot be opened is an error with a remedy."""
    try:
        if path.is_file():
            return read_json(path)
        found = "this is not a regular file" if path.exists() else "there is no such file"
    except OSError as error:
        found = f"the file cannot be read: {error.strerror}"
    remedy = f"check the name; specs are called <behavior>{FILE_SUFFIX}"
    raise SpecErrors([Problem(path=path, line=1, column=1, pointer="", found=found, remedy=remedy)])


def _spec_files(folder: Path) -> list[Path]:
    """Spec files of a folder, by name; none is an error."""
    if folder.is_dir():
        files = sorted(folder.glob(f"*{FILE_SUFFIX}"))
        if files:
            return files
        found = f"the folder holds no spec, nothing is called *{FILE_SUFFIX}"
    else:
        found = "there is no such folder"
    raise SpecError(
        found,
        where=str(folder),
        remedy="name a folder with specs, or lay the shipped ones out with `caa-harness init`",
    )


def _is_other_version(document: Document) -> bool:
    """Whether the file follows other rules than these, so that nothing else can be said."""
    if not isinstance(document.value, dict):
        return False
    version = document.value.get("schema_version", 1)
    return isinstance(version, int) and not isinstance(version, bool) and version != 1


def _rows(document: Document, name: str, definition: str, problems: list[Problem]) -> list[Row]:
    """Rows of one section, wherever they stand; what is wrong with a file goes to ``problems``."""
    section = document.value.get(name)
    if isinstance(section, list):
        return [
            Row(document=document, tokens=(name, index), value=value)
            for index, value in enumerate(section)
        ]
    reference = section.get("file") if isinstance(section, dict) else None
    if not isinstance(reference, str) or not reference.endswith(".jsonl"):
        return []
    path = find_file(document.path, reference)
    if isinstance(path, tuple):
        problems.append(document.problem([name, "file"], *path))
        return []
    try:
        lines = read_jsonl(path)
    except OSError as error:
        found = f"{reference} cannot be read: {error.strerror}"
        problems.append(document.problem([name, "file"], found, "check the file's permissions"))
        return []
    if not lines:
        found = f"{reference} holds no rows"
        problems.append(document.problem([name, "file"], found, "write one row per line"))
    for line in lines:
        problems += [*line.problems, *schema_problems(line, definition)]
    return [
        Row(document=line, tokens=(), value=line.value)
        for line in lines
        if line.value is not UNUSABLE
    ]


def _build(document: Document, sections: Mapping[str, Sequence[Row]]) -> BehaviorSpec:
    """Make the frozen spec out of a document without problems."""
    value = document.value
    multipliers = tuple(sorted(float(one) + 0.0 for one in value["multipliers"]))
    system_prompts = value.get("system_prompts", {})
    parts: dict[str, Any] = {
        "behavior": value["behavior"],
        "description": value["description"],
        "sign": value["sign"],
        "pairs": tuple(ContrastivePair(**_two_answers(row)) for row in sections["pairs"]),
        "held_out": tuple(
            HeldOutQuestion(**_two_answers(row), cluster=row.value.get("cluster"))
            for row in sections["held_out"]
        ),
        "open_ended": tuple(one["prompt"] for one in value.get("open_ended", ())),
        "positive_system_prompt": system_prompts.get("positive"),
        "negative_system_prompt": system_prompts.get("negative"),
        "capability": tuple(
            CapabilityItem(
                question=row.value["question"],
                options=tuple(row.value["options"]),
                correct=int(row.value["correct"]),
                category=row.value.get("category"),
            )
            for row in sections["capability"]
        ),
        "layer": _layer(document),
        "multipliers": multipliers,
        "claims": tuple(
            _claim(claim, multipliers, _position(document, ("claims", index)))
            for index, claim in enumerate(value["claims"])
        ),
        "confidence": float(value.get("confidence", _DEFAULT_CONFIDENCE)),
        "resamples": int(value.get("resamples", _DEFAULT_RESAMPLES)),
        "seed": int(value.get("seed", 0)),
        "family": value.get("family"),
        "scoring": value.get("scoring", "both_orders"),
    }
    unsigned = BehaviorSpec(path=document.path, **parts, digest="")
    canonical = spec_json(unsigned)
    for key in _NOT_MEASURED:
        canonical.pop(key, None)
    return BehaviorSpec(path=document.path, **parts, digest=digest_json(canonical))


def _position(document: Document, tokens: Sequence[str | int]) -> SourcePosition:
    problem = document.problem(tokens, "", "")
    return SourcePosition(
        path=problem.path, line=problem.line, column=problem.column, pointer=problem.pointer
    )


def _two_answers(row: Row) -> dict[str, Any]:
    published = row.value.get("as_published")
    return {
        "question": row.value["question"],
        "matching": row.value["matching"],
        "not_matching": row.value["not_matching"],
        "as_published": AsPublished(**published) if published is not None else None,
    }


def _layer(document: Document) -> LayerRule:
    value = document.value["layer"]
    if not isinstance(value, dict):
        value = {"number": value}
    number, fraction = value.get("number"), value.get("fraction")
    return LayerRule(
        number=int(number) if number is not None else None,
        fraction=float(fraction) if fraction is not None else None,
        models={name: int(block) for name, block in value.get("models", {}).items()},
        position=_position(document, ("layer",)),
    )


def _claim(
    value: Mapping[str, Any], multipliers: tuple[float, ...], position: SourcePosition
) -> Claim:
    """Make one claim, with its defaults filled in."""
    name = claim_id(value, multipliers)
    assert name is not None
    parts = _claim_defaults(value["type"], multipliers)
    for key, part in value.items():
        if key in ("id", "type"):
            continue
        if key == "multipliers":
            parts[key] = tuple(sorted(float(one) + 0.0 for one in part))
        elif key == "draws":
            parts[key] = int(part)
        elif isinstance(part, list):
            parts[key] = tuple(part)
        elif isinstance(part, str):
            parts[key] = part
        else:
            parts[key] = float(part) + 0.0
    return _CLAIM_TYPES[value["type"]](id=name, position=position, **parts)


def _claim_defaults(kind: str, multipliers: tuple[float, ...]) -> dict[str, Any]:
    """Parameters that a claim of this kind has when the file does not say them."""
    defaults: dict[str, dict[str, Any]] = {
        "dose_response": {"multipliers": multipliers, "at_least": 0.0},
        "capability": {
            "multipliers": default_capability_multipliers(multipliers),
            "metric": "probability",
        },
        "answer_mass": {"multipliers": multipliers},
        "null": {"draws": _DEFAULT_DRAWS},
        "specificity": {"against": ()},
    }
    return defaults.get(kind, {})


_CLAIM_TYPES: Final[dict[str, type[Claim]]] = {
    one.kind: one
    for one in (
        ShiftClaim,
        LevelClaim,
        DoseResponseClaim,
        CapabilityClaim,
        AnswerMassClaim,
        LetterPartClaim,
        NullClaim,
        SpecificityClaim,
    )
}
