"""The canonical layout of spec files: the same content, written in one way.

Text comes in, text goes out.  Keys stand in the schema's order, two spaces
deep; a row or a claim takes one line.  Whatever cannot be read strictly is
refused, so that no formatting can lose a word.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caa_harness.atomic import write_text
from caa_harness.errors import SpecError
from caa_harness.spec import FILE_SUFFIX, SpecErrors, schema_text
from caa_harness.strict_json import parse_json, parse_jsonl, read_json, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from caa_harness.strict_json import Document

_WIDTH: Final = 100
_SECTIONS: Final = ("pairs", "held_out", "open_ended", "capability", "claims")
"""Lists that have a row per line, however long."""


def format_spec(text: str, path: Path) -> str:
    r"""Lay out the text of a spec file.

    Raises
    ------
    SpecErrors
        When the text is not strict JSON.

    Examples
    --------
    >>> print(format_spec('{"multipliers":[0,1],\n"behavior": "x"}', Path("x")), end="")
    {
      "behavior": "x",
      "multipliers": [0, 1]
    }
    """
    document = parse_json(text, path)
    _check([document])
    value = document.value
    if not isinstance(value, dict):
        return _line(value) + "\n"
    laid_out = _block(value)
    assert _same(parse_json(laid_out, path).value, value), "formatting changed the content"
    return laid_out


def format_rows(text: str, path: Path) -> str:
    """Lay out the text of a JSONL file: a row per line, no blank lines.

    Raises
    ------
    SpecErrors
        When a line is not strict JSON.
    """
    documents = parse_jsonl(text, path)
    _check(documents)
    laid_out = "".join(f"{_line(document.value)}\n" for document in documents)
    again = [document.value for document in parse_jsonl(laid_out, path)]
    assert _same(again, [one.value for one in documents]), "formatting changed the content"
    return laid_out


def format_files(paths: Sequence[Path], *, write: bool = True) -> list[Path]:
    """Lay out spec files and the row files that they name; return those that differed.

    Every file is read before one is written, each in one step.

    Parameters
    ----------
    paths : sequence of Path
        Spec files, JSONL files, or folders of them.
    write : bool
        Whether to put the layout into the files.

    Raises
    ------
    SpecError
        When there is nothing to lay out.
    SpecErrors
        With everything that is no strict JSON, in any of the files.
    """
    changed: dict[Path, str] = {}
    problems: list[Any] = []
    for path in _files(paths):
        try:
            text = path.read_bytes().decode("utf-8")
            laid_out = (format_rows if path.suffix == ".jsonl" else format_spec)(text, path)
        except UnicodeDecodeError:
            broken = read_jsonl(path) if path.suffix == ".jsonl" else [read_json(path)]
            problems += [problem for document in broken for problem in document.problems]
        except SpecErrors as errors:
            problems += errors.problems
        else:
            if laid_out != text:
                changed[path] = laid_out
    if problems:
        raise SpecErrors(problems)
    if write:
        for path, laid_out in changed.items():
            write_text(path.resolve(), laid_out)
    return list(changed)


def _files(paths: Iterable[Path]) -> list[Path]:
    """Spec and row files that ``paths`` name, each once, in order."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = [*sorted(path.glob(f"*{FILE_SUFFIX}")), *sorted(path.glob("*.jsonl"))]
            if not inside:
                raise _nothing("the folder holds no spec and no rows", path)
            found.update(dict.fromkeys(inside))
        elif path.is_file() and path.name.endswith((".json", ".jsonl")):
            found[path] = None
            if path.suffix == ".json":
                found.update(dict.fromkeys(_named_files(path)))
        else:
            raise _nothing("there is no spec file, JSONL file or folder of that name", path)
    return list(found)


def _nothing(found: str, path: Path) -> SpecError:
    return SpecError(
        found,
        where=str(path),
        remedy=f"name a file *{FILE_SUFFIX} or *.jsonl, or a folder that holds some",
    )


def _named_files(path: Path) -> list[Path]:
    """Row files that a spec names and that lie beside it."""
    value = read_json(path).value
    sections = value.values() if isinstance(value, dict) else ()
    names = [one.get("file") for one in sections if isinstance(one, dict)]
    beside = [path.parent / name for name in names if isinstance(name, str) and "/" not in name]
    return [one for one in beside if one.suffix == ".jsonl" and one.is_file()]


def _check(documents: Iterable[Document]) -> None:
    problems = [problem for document in documents for problem in document.problems]
    if problems:
        raise SpecErrors(problems)


def _block(value: Mapping[str, Any]) -> str:
    """Write the outermost object, a key per line."""
    parts = []
    for key, part in _ordered(value):
        one_line = _line(part)
        if isinstance(part, list) and part and key in _SECTIONS:
            rows = ",\n".join(f"    {_line(row)}" for row in part)
            one_line = f"[\n{rows}\n  ]"
        elif isinstance(part, dict | list) and part and len(one_line) + len(key) > _WIDTH - 8:
            one_line = json.dumps(_sorted(part), indent=2, ensure_ascii=False)
            one_line = one_line.replace("\n", "\n  ")
        parts.append(f"  {_line(key)}: {one_line}")
    return "{\n" + ",\n".join(parts) + "\n}\n" if parts else "{}\n"


def _line(value: Any) -> str:
    return json.dumps(_sorted(value), ensure_ascii=False)


def _sorted(value: Any) -> Any:
    """Put the keys of every object into order."""
    if isinstance(value, dict):
        return {key: _sorted(part) for key, part in _ordered(value)}
    return [_sorted(part) for part in value] if isinstance(value, list) else value


def _ordered(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Items in the schema's order; keys that it does not know keep theirs, at the end."""
    order = _key_order()
    return sorted(value.items(), key=lambda item: order.get(item[0], len(order)))


@cache
def _key_order() -> dict[str, int]:
    """Place of every key, as the schema names them from its top to its bottom."""
    order: dict[str, int] = {}

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            for key in part.get("properties", {}):
                order.setdefault(key, len(order))
            part = list(part.values())
        if isinstance(part, list):
            for one in part:
                walk(one)

    walk(json.loads(schema_text()))
    first = ("$schema", "id", "type")
    return {key: place for place, key in enumerate([*first, *(k for k in order if k not in first)])}


def _same(left: Any, right: Any) -> bool:
    """Equal in value and in kind, so that ``1`` is not ``1.0`` and not ``true``."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
