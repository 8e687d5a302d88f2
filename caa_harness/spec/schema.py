"""The published JSON schema of spec files, and what a document breaks of it, in words.

A parsed document comes in; a list of problems with source positions goes out.
The schema is draft-07, because that is what editors support, and is never
fetched from anywhere.  ``jsonschema`` is imported when the first document is
checked, not before.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from caa_harness.strict_json import UNUSABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

    from caa_harness.strict_json import Document, Problem, Token

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
        "use 1 to 64 letters, digits, dots, underscores and hyphens, "
        "with a letter or digit at both ends",
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
    if definition is not None:
        schema = {
            "$ref": f"#/definitions/{definition}",
            "definitions": schema["definitions"],
        }
    return Draft7Validator(schema)


def schema_problems(document: Document, definition: str | None = None) -> Iterator[Problem]:
    """What ``document`` breaks of the schema, or of one of its ``definitions``.

    Parts that the parser has complained about already are left alone.
    """
    if document.value is UNUSABLE:
        return
    for error in _validator(definition).iter_errors(document.value):
        if error.instance is UNUSABLE:
            continue
        tokens = list(error.absolute_path)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(document, tokens, error)
        else:
            found, remedy = _words(tokens, error)
            yield document.problem(tokens, found, remedy)


def _unknown_keys(
    document: Document, tokens: list[Token], error: ValidationError
) -> Iterator[Problem]:
    """One problem per unknown key, at the key."""
    known = error.schema["properties"]
    missing = [name for name in known if name not in error.instance]
    for key in error.instance:
        if key not in known:
            yield document.problem(
                [*tokens, key],
                f"unknown key {show(key)}{did_you_mean(key, missing)}",
                f"use one of {', '.join(known)}" if known else "take it away",
                at_key=True,
            )


def _words(tokens: list[Token], error: ValidationError) -> tuple[str, str]:
    """What was found and what to do, for one error of the validator."""
    instance, wanted = error.instance, error.validator_value
    name = f"{tokens[-1]} " if tokens and isinstance(tokens[-1], str) else ""
    match error.validator:
        case "required":
            return _missing_key(error, known=error.schema.get("properties", {}))
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else list(wanted)
            kind = " or ".join(_TYPES[one] for one in kinds)
            return f"{show(instance)} is not {kind}", f"write {kind}"
        case "enum":
            choices = ", ".join(show(one) for one in wanted)
            guess = did_you_mean(instance, [one for one in wanted if isinstance(one, str)])
            return f"{show(instance)} is not one of the choices{guess}", f"use one of {choices}"
        case "const":
            return _not_const(tokens, instance, wanted)
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return (
                f"{name}{show(instance)} is out of range",
                f"choose a number that is {_BOUNDS[error.validator]} {wanted}",
            )
        case "minItems":
            return (
                f"{name}has {len(instance)} {_entries(len(instance))}",
                f"give at least {wanted} {_entries(wanted)}",
            )
        case "maxItems":
            return f"{name}has {len(instance)} entries", f"give at most {wanted} entries"
        case "pattern":
            says, remedy = _PATTERNS[wanted]
            return f"{name}{show(instance)} {says}", remedy
        case "not":
            return f"{name}0 is the unsteered model", "name a multiplier other than 0"
        case "oneOf" | "anyOf":
            return _alternatives(instance, error)
    raise AssertionError(error.validator)


def _missing_key(error: ValidationError, known: Iterable[str]) -> tuple[str, str]:
    """Find the key that the error is about; the validator makes one error per missing key."""
    absent = [key for key in error.validator_value if key not in error.instance]
    key = next((one for one in absent if error.message.startswith(f"'{one}'")), absent[0])
    strangers = [one for one in error.instance if one not in set(known)]
    guess = get_close_matches(key, strangers, n=1)
    remedy = f"rename {show(guess[0])} to {show(key)}" if guess else f"add {show(key)}: ..."
    return f"the key {show(key)} is missing", remedy


def _not_const(tokens: list[Token], instance: Any, wanted: Any) -> tuple[str, str]:
    if tokens == ["schema_version"]:
        return (
            f"schema_version {show(instance)} is not known; this version of caa-harness "
            f"reads {wanted}",
            f"write {wanted}, or install a caa-harness that knows version {show(instance)}",
        )
    return f"{show(instance)} is not {show(wanted)}", f"write {show(wanted)}"


def _alternatives(instance: dict[str, Any], error: ValidationError) -> tuple[str, str]:
    """A choice between keys: none of them there, or too many."""
    names = [one["required"][0] for one in error.validator_value]
    there = [name for name in names if name in instance]
    if there:
        return f"{' and '.join(there)} stand side by side", f"keep one of {', '.join(names)}"
    return f"neither {' nor '.join(names)} is given", f"add {' or '.join(names)}"


def _entries(count: int) -> str:
    return "entry" if count == 1 else "entries"


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """``, did you mean "shift"?`` where a known word is close, else nothing."""
    if not isinstance(word, str):
        return ""
    by_folded = {one.casefold().replace("-", "_"): one for one in known}
    close = get_close_matches(word.casefold().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return f", did you mean {show(by_folded[close[0]])}?" if close else ""


def show(value: Any) -> str:
    """JSON text of a value, cut to one short piece, for messages."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
