"""The published JSON schema of spec files, and what a document breaks of it, in words.

A parsed document comes in; a list of problems with source positions goes out.
The schema is draft-07, because that is what editors support, and is never
fetched from anywhere.  ``jsonschema`` is imported when the first document is
checked, not before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from caa_harness.strict_json import UNUSABLE, Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jsonschema.protocols import Validator

    from caa_harness.strict_json import Document, Problem

_FILE_NAME: Final = "behavior_spec.schema.json"
_LONGEST_SHOWN: Final = 60

_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "text",
}
_PATTERNS: Final = {
    r"\S": ("is blank", "write some text"),
    r"\.jsonl$": ("is not the name of a JSONL file", "name a file that ends in .jsonl"),
    r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$": (
        "is not a usable name",
        "use 1 to 64 letters, digits, and . _ - between them",
    ),
    r"^[A-Za-z0-9_.+,\[\]-]{1,80}$": (
        "cannot name a test case",
        "use 1 to 80 of the characters A-Z a-z 0-9 _ . + , [ ] -",
    ),
}
_BOUNDS: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def schema_text() -> str:
    """Text of the schema file, as it is shipped."""
    return files("caa_harness").joinpath("schema", _FILE_NAME).read_text(encoding="utf-8")


@cache
def _schema() -> dict[str, Any]:
    return json.loads(schema_text())


@cache
def _validator(definition: str | None) -> Validator:
    from jsonschema import Draft7Validator  # noqa: PLC0415  (not before a spec is read)

    schema = _schema()
    part = schema if definition is None else schema["definitions"][definition]
    # Written out, because following references takes most of the validator's time.
    return Draft7Validator(_without_references(part, schema["definitions"]))


def _without_references(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Write the schema with each ``$ref`` replaced by what it points at."""
    if isinstance(part, list):
        return [_without_references(one, definitions) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        name = part["$ref"].removeprefix("#/definitions/")
        return _without_references(definitions[name], definitions)
    return {
        key: _without_references(one, definitions)
        for key, one in part.items()
        if key != "definitions"
    }


def schema_problems(document: Document, definition: str | None = None) -> Iterator[Problem]:
    """Find what ``document`` breaks of the schema, or of one of its ``definitions``.

    Parts that the parser has complained about already are left alone.
    """
    if document.value is UNUSABLE:
        return
    for error in _validator(definition).iter_errors(document.value):
        if error.instance is UNUSABLE or (
            error.validator == "const" and not isinstance(error.instance, int)
        ):
            continue  # said already, by the parser or by the keyword "type"
        tokens = list(error.absolute_path)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(document, tokens, error)
        elif not _is_misspelt_key(error):
            found, remedy = _WORDS[str(error.validator)](tokens, error)
            yield document.problem(tokens, found, remedy)


def _unknown_keys(document: Document, tokens: list[Token], error: Any) -> Iterator[Problem]:
    """One problem per unknown key, at the key."""
    known = error.schema["properties"]
    missing = [name for name in known if name not in error.instance]
    for key in error.instance:
        if key not in known:
            guess = did_you_mean(key, missing) or did_you_mean(key, list(known))
            yield document.problem(
                [*tokens, key],
                f"unknown key {show(key)}{guess}",
                f"use one of {', '.join(known)}",
                at_key=True,
            )


def _is_misspelt_key(error: Any) -> bool:
    """Whether a missing key is there under a name that the unknown key's message corrects."""
    if error.validator != "required" or error.schema.get("additionalProperties") is not False:
        return False
    known = error.schema["properties"]
    missing = [name for name in known if name not in error.instance]
    strangers = [name for name in error.instance if name not in known]
    return any(_closest(name, missing) == _missing_key(error) for name in strangers)


def _missing_key(error: Any) -> str:
    """Name the key that the error is about; the validator makes one error per missing key."""
    absent = [key for key in error.validator_value if key not in error.instance]
    return next(key for key in absent if error.message.startswith(repr(key)))


def _words_of_required(_tokens: list[Token], error: Any) -> tuple[str, str]:
    key = _missing_key(error)
    strangers = [one for one in error.instance if one not in error.schema["properties"]]
    near = [one for one in strangers if _closest(one, [key])]
    remedy = f"rename {show(near[0])} to {show(key)}" if near else f"add {show(key)}: ..."
    return f"the key {show(key)} is missing", remedy


def _words_of_type(_tokens: list[Token], error: Any) -> tuple[str, str]:
    wanted = error.validator_value
    kinds = [wanted] if isinstance(wanted, str) else wanted
    kind = " or ".join(_TYPES[one] for one in kinds)
    return f"{show(error.instance)} is not {kind}", f"write {kind}"


def _words_of_enum(_tokens: list[Token], error: Any) -> tuple[str, str]:
    choices = error.validator_value
    return (
        f"{show(error.instance)} is not one of the choices{did_you_mean(error.instance, choices)}",
        f"use one of {', '.join(map(show, choices))}",
    )


def _words_of_const(_tokens: list[Token], error: Any) -> tuple[str, str]:
    found, known = show(error.instance), error.validator_value
    return (
        f"schema_version {found} is not known; this version of caa-harness reads {known}",
        f"write {known}, or install a caa-harness that knows version {found}",
    )


def _words_of_bound(tokens: list[Token], error: Any) -> tuple[str, str]:
    return (
        f"{_name(tokens)}{show(error.instance)} is out of range",
        f"choose a number that is {_BOUNDS[error.validator]} {error.validator_value}",
    )


def _words_of_count(tokens: list[Token], error: Any) -> tuple[str, str]:
    if tokens == ["held_out"]:
        return (
            "the spec has no held-out questions, so there is nothing to measure",
            "add questions that do not occur among the pairs",
        )
    count, wanted = len(error.instance), error.validator_value
    side = "at least" if error.validator == "minItems" else "at most"
    return f"{_name(tokens)}has {_entries(count)}", f"give {side} {_entries(wanted)}"


def _words_of_pattern(tokens: list[Token], error: Any) -> tuple[str, str]:
    says, remedy = _PATTERNS[error.validator_value]
    return f"{_name(tokens)}{show(error.instance)} {says}", remedy


def _words_of_not(tokens: list[Token], _error: Any) -> tuple[str, str]:
    found = f"{_name(tokens)}0 is the unsteered model, which this claim cannot be about"
    return found, "name a multiplier other than 0"


def _words_of_choice(_tokens: list[Token], error: Any) -> tuple[str, str]:
    names = [one["required"][0] for one in error.validator_value]
    there = [name for name in names if name in error.instance]
    if there:
        return f"{' and '.join(there)} stand side by side", f"keep one of {', '.join(names)}"
    return f"neither {' nor '.join(names)} is given", f"add {' or '.join(names)}"


_WORDS: Final[dict[str, Callable[[list[Token], Any], tuple[str, str]]]] = {
    "required": _words_of_required,
    "type": _words_of_type,
    "enum": _words_of_enum,
    "const": _words_of_const,
    "minimum": _words_of_bound,
    "maximum": _words_of_bound,
    "exclusiveMinimum": _words_of_bound,
    "exclusiveMaximum": _words_of_bound,
    "minItems": _words_of_count,
    "maxItems": _words_of_count,
    "pattern": _words_of_pattern,
    "not": _words_of_not,
    "oneOf": _words_of_choice,
    "anyOf": _words_of_choice,
}
"""What was found and what to do, by the schema keyword that is broken."""


def _name(tokens: list[Token]) -> str:
    return f"{tokens[-1]} " if tokens and isinstance(tokens[-1], str) else ""


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _closest(word: str, known: Sequence[str]) -> str | None:
    """Find the known word that is meant, if one is close enough."""
    by_folded = {one.casefold().replace("-", "_"): one for one in known}
    close = get_close_matches(word.casefold().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """``, did you mean "shift"?`` where a known word is close, else nothing."""
    closest = _closest(word, known) if isinstance(word, str) else None
    return f", did you mean {show(closest)}?" if closest else ""


def show(value: Any) -> str:
    """JSON text of a value, cut to one short piece, for messages."""
    text = json.dumps(value, default=lambda _: "...")
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
