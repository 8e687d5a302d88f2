"""Strict JSON: text in, a value and the source position of every part of it out.

Everything that the standard decoder lets pass without a word is a problem
here: keys that stand twice, ``NaN``, ``1e999``, integers too large to be exact,
lone surrogates, a byte order mark.  Problems are collected, not raised, so
that a reader sees all of them at once; only where the text can no longer be
followed does the reading stop.  Nothing here knows what the JSON means.
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**63 - 1
MAX_PROBLEMS: Final = 1000
"""After so many the rest of a text is not read."""

_LONGEST_INTEGER: Final = 20
_LONGEST_SHOWN: Final = 40

Token = str | int
Mark = Any
"""Offset of a value; for containers ``(offset, children)``: marks, or key -> (offset, mark)."""


class _Unusable:
    """Stands where the text holds a value that has already been complained about."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNUSABLE"


UNUSABLE: Final = _Unusable()

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN_STRING = re.compile(r'"([^"\\\x00-\x1f\ud800-\udfff]*)"')
_ANY_STRING = re.compile(r'"(?:[^"\\\n\r]|\\.)*"')
_SMALL_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?=[,\]}\s])")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBERISH = re.compile(r"[-+.0-9][-+.\w]*")
_WORD = re.compile(r"[^\W\d]\w*")
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LITERALS: Final = {"true": True, "false": False, "null": None}
_FOREIGN: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}
_BYTE_ORDER_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file, where, and what to do about it."""

    path: Path
    line: int
    column: int
    """In characters, from 1, as ``line``."""
    pointer: str
    """RFC 6901; empty for the whole text."""
    found: str
    remedy: str

    @property
    def where(self) -> str:
        """``file:line:col: /pointer``."""
        return format_where(self.path, self.line, self.column, self.pointer)

    def __str__(self) -> str:
        """Write the problem as an error's message."""
        return f"{self.where}: {self.found}\n  try: {self.remedy}"


def format_where(path: Path, line: int, column: int, pointer: str) -> str:
    """Say where something stands; the path is relative to the working folder when inside it."""
    return f"{shown_path(path)}:{line}:{column}: {pointer or '/'}"


def shown_path(path: Path) -> str:
    """Path as messages show it: relative to the working folder when inside it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow links)
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def pointer(tokens: Sequence[Token]) -> str:
    """Write an RFC 6901 pointer.

    Examples
    --------
    >>> pointer(["claims", 2, "at/least"])
    '/claims/2/at~1least'
    """
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


@dataclass(slots=True, kw_only=True)
class Document:
    """One JSON text, read: its value, where every part of it stands, what is wrong with it."""

    path: Path
    text: str
    first_line: int
    """Line of the file on which ``text`` starts (a JSONL file is one document per line)."""
    value: Any
    """``UNUSABLE`` where nothing could be read."""
    problems: list[Problem]
    marks: Mark
    _line_starts: list[int] = field(default_factory=list)

    def position(self, tokens: Sequence[Token], *, at_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value (or its key) at ``tokens``.

        Where the text ends before ``tokens`` does, the nearest part around it counts.
        """
        mark = self.marks
        offset = _start(mark)
        for token in tokens:
            children = mark[1] if isinstance(mark, tuple) else None
            if isinstance(children, dict) and token in children:
                key_offset, mark = children[token]
                offset = key_offset if at_key else _start(mark)
            elif isinstance(children, list) and isinstance(token, int) and token < len(children):
                mark = children[token]
                offset = _start(mark)
            else:
                break
        return self.line_and_column(offset)

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character of ``text``."""
        if not self._line_starts:
            self._line_starts = [0, *(found.end() for found in re.finditer("\n", self.text))]
        line = bisect_right(self._line_starts, offset) - 1
        return self.first_line + line, offset - self._line_starts[line] + 1

    def problem(
        self, tokens: Sequence[Token], found: str, remedy: str, *, at_key: bool = False
    ) -> Problem:
        """Make a problem out of what was found at ``tokens``."""
        line, column = self.position(tokens, at_key=at_key)
        return Problem(
            path=self.path,
            line=line,
            column=column,
            pointer=pointer(tokens),
            found=found,
            remedy=remedy,
        )


def _start(mark: Mark) -> int:
    return mark[0] if isinstance(mark, tuple) else mark


def read_json(path: Path) -> Document:
    """Read a file that holds one JSON value.

    Raises
    ------
    OSError
        When the file cannot be read; everything else becomes a problem of the document.
    """
    data = path.read_bytes()
    text, problem = _decode(data, path)
    if problem is not None:
        return _unread(path, problem)
    return parse_json(text, path)


def read_jsonl(path: Path) -> list[Document]:
    """Read a file that holds one JSON value per line; blank lines count for nothing.

    Raises
    ------
    OSError
        As :func:`read_json`.
    """
    data = path.read_bytes()
    text, problem = _decode(data, path)
    if problem is not None:
        return [_unread(path, problem)]
    return parse_jsonl(text, path)


def parse_json(text: str, path: Path, *, first_line: int = 1) -> Document:
    r"""Read one JSON value.

    Examples
    --------
    >>> document = parse_json('{"a": [1,\n 2]}', Path("x.json"))
    >>> document.value, document.position(["a", 1])
    ({'a': [1, 2]}, (2, 2))
    """
    document = Document(
        path=path, text=text, first_line=first_line, value=UNUSABLE, problems=[], marks=0
    )
    scanner = _Scanner(document)
    try:
        scanner.read()
    except _StopReadingError:
        document.value = UNUSABLE
    return document


def parse_jsonl(text: str, path: Path) -> list[Document]:
    """Read one JSON value per line, each with the line that it stands on."""
    return [
        parse_json(line.removesuffix("\r"), path, first_line=number)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip(" \t\r\ufeff")
    ]


def _decode(data: bytes, path: Path) -> tuple[str, Problem | None]:
    """UTF-8 text of a file, or the one problem that prevents it."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            found = f"the file is {encoding} text, not UTF-8"
            return "", _file_problem(path, 1, 1, found, "save the file as UTF-8")
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8")) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        return "", _file_problem(path, line, column, found, "save the file as UTF-8")


def _file_problem(path: Path, line: int, column: int, found: str, remedy: str) -> Problem:
    return Problem(path=path, line=line, column=column, pointer="", found=found, remedy=remedy)


def _unread(path: Path, problem: Problem) -> Document:
    return Document(path=path, text="", first_line=1, value=UNUSABLE, problems=[problem], marks=0)


class _StopReadingError(Exception):
    """The text cannot be followed any further."""


class _Scanner:
    """Recursive descent over one text, at most ``MAX_DEPTH`` deep."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.text = document.text
        self.at = 0
        self.tokens: list[Token] = []

    def read(self) -> None:
        """Fill the document with what the text holds."""
        if self.text.startswith("\ufeff"):
            self.complain(
                0,
                "the file starts with a byte order mark",
                'save the file as "UTF-8", not as "UTF-8 with BOM"',
            )
            self.at = 1
        self.skip()
        if self.at == len(self.text):
            self.stop(self.at, "the file is empty", "write one JSON object")
        self.document.value, self.document.marks = self.value()
        self.skip()
        if self.at < len(self.text):
            self.tokens = []
            self.complain(
                self.at,
                f"the JSON value has ended, but {self.here()} follows",
                "delete what follows, or look for a bracket that closes too early",
            )

    def complain(self, offset: int, found: str, remedy: str) -> None:
        """Note a problem and go on."""
        line, column = self.document.line_and_column(offset)
        self.document.problems.append(
            Problem(
                path=self.document.path,
                line=line,
                column=column,
                pointer=pointer(self.tokens),
                found=found,
                remedy=remedy,
            )
        )
        if len(self.document.problems) >= MAX_PROBLEMS:
            raise _StopReadingError

    def stop(self, offset: int, found: str, remedy: str) -> NoReturn:
        """Note a problem after which the rest of the text means nothing."""
        self.complain(offset, found, remedy)
        raise _StopReadingError

    def here(self) -> str:
        """Name what stands at the current place, for messages."""
        if self.at >= len(self.text):
            return "the end of the text"
        word = _WORD.match(self.text, self.at) or _NUMBERISH.match(self.text, self.at)
        return ascii(_cut(word.group()) if word else self.text[self.at])

    def skip(self) -> None:
        """Step over space, and over comments with a problem each."""
        text = self.text
        while True:
            self.at = _SPACE.match(text, self.at).end()  # type: ignore[union-attr]
            if text[self.at : self.at + 1] not in ("/", "#"):
                return
            comment = _COMMENT.match(text, self.at)
            if comment is None:
                return
            self.complain(self.at, "JSON has no comments", "delete the comment")
            self.at = comment.end()

    def value(self) -> tuple[Any, Mark]:
        """Read the value that starts here."""
        start = self.at
        character = self.text[start : start + 1]
        if character == '"':
            return self.string(), start
        if character == "{":
            return self.object()
        if character == "[":
            return self.array()
        if character and character in "-+.0123456789":
            return self.number(), start
        return self.word(), start

    def string(self) -> Any:
        """Read a string; escapes go through the standard decoder."""
        start = self.at
        plain = _PLAIN_STRING.match(self.text, start)
        if plain is not None:
            self.at = plain.end()
            return plain.group(1)
        quoted = _ANY_STRING.match(self.text, start)
        if quoted is None:
            self.stop(
                start,
                "a string starts here and is not closed on its line",
                'close it with ", and write line breaks inside it as \\n',
            )
        self.at = quoted.end()
        try:
            value = json.loads(quoted.group())
        except json.JSONDecodeError as error:
            return self.odd_string(quoted.group(), start, error)
        lone = _SURROGATE.search(value)
        if lone is not None:
            self.complain(
                start,
                f"the string holds half a character (a lone surrogate, \\u{ord(lone.group()):04x})",
                "write both halves of the pair, or the character itself",
            )
            value = _SURROGATE.sub("\ufffd", value)
        return value

    def odd_string(self, quoted: str, start: int, error: json.JSONDecodeError) -> Any:
        """Complain about a bad escape or a raw control character."""
        character = ascii(quoted[error.pos : error.pos + 2].rstrip('"'))
        if "control character" in error.msg:
            self.complain(
                start + error.pos,
                f"the string holds a raw control character, {quoted[error.pos]!a}",
                "write it as an escape, such as \\t for a tab",
            )
        else:
            self.complain(
                start + error.pos,
                f"{character} is not an escape that JSON knows",
                "write a backslash as \\\\, and a character by its number as \\u00e9",
            )
        return UNUSABLE

    def number(self) -> Any:
        """Read a number that can be held exactly, or nearly so for fractions."""
        start = self.at
        small = _SMALL_INTEGER.match(self.text, start)
        if small is not None:
            self.at = small.end()
            return int(small.group())
        match = _NUMBER.match(self.text, start)
        written = _NUMBERISH.match(self.text, start)
        assert written is not None
        self.at = written.end()
        shown = _cut(written.group())
        if written.group() in ("-Infinity", "+Infinity"):
            return self.not_a_number(start, shown)
        if match is None or match.end() != written.end():
            self.complain(
                start,
                f"{shown} is not a number as JSON writes it",
                "write digits, without a plus or leading zeros, and on both sides of a point",
            )
            return UNUSABLE
        fraction, exponent = match.groups()
        if fraction is None and exponent is None:
            return self.integer(match.group(), start, shown)
        return self.fraction(match.group(), start, shown)

    def fraction(self, digits: str, start: int, shown: str) -> Any:
        """Read a number with a point or an exponent that a float can hold."""
        value = float(digits)
        if math.isinf(value):
            self.complain(start, f"{shown} is too large for a number", "write a finite number")
            return UNUSABLE
        if value == 0.0 and re.search("[1-9]", re.split("[eE]", digits)[0]):
            self.complain(start, f"{shown} is so small that it would be read as 0", "write 0")
            return UNUSABLE
        return value

    def integer(self, digits: str, start: int, shown: str) -> Any:
        """Read a whole number that fits into 64 bits."""
        if len(digits) > _LONGEST_INTEGER or abs(int(digits)) > MAX_INTEGER:
            self.complain(
                start,
                f"{shown} is too large for a whole number",
                f"stay between -{MAX_INTEGER} and {MAX_INTEGER}",
            )
            return UNUSABLE
        return int(digits)

    def not_a_number(self, start: int, shown: str) -> Any:
        self.complain(
            start, f"{shown} is not a number that JSON has", "write a finite number, or null"
        )
        return UNUSABLE

    def word(self) -> Any:
        """Read ``true``, ``false`` or ``null``; name what else stands here."""
        start = self.at
        match = _WORD.match(self.text, start)
        word = match.group() if match else ""
        if word in _LITERALS:
            self.at += len(word)
            return _LITERALS[word]
        if word in ("NaN", "Infinity", "nan", "inf"):
            self.at += len(word)
            return self.not_a_number(start, word)
        if word in _FOREIGN:
            self.at += len(word)
            self.complain(start, f"{word} is not JSON", f"write {_FOREIGN[word]}")
            return UNUSABLE
        if self.text[start : start + 1] == "'":
            self.stop(start, "JSON strings stand in double quotes", "write \"...\" for '...'")
        if start >= len(self.text):
            self.stop(start, "the text ends in the middle", "look for a bracket that never closes")
        found = f"{self.here()} is not the start of a JSON value"
        return self.stop(start, found, "put text in quotes")

    def enter(self) -> None:
        """Go one level down, but not for ever."""
        if len(self.tokens) >= MAX_DEPTH:
            del self.tokens[8:]
            self.stop(
                self.at,
                f"brackets are nested more than {MAX_DEPTH} deep",
                "take levels away; nothing here needs that many",
            )
        self.at += 1
        self.skip()

    def object(self) -> tuple[Any, Mark]:
        """Read an object; each key counts once."""
        start = self.at
        self.enter()
        value: dict[str, Any] = {}
        marks: dict[str, tuple[int, Mark]] = {}
        while not self.closes("}", started=bool(value)):
            key_at = self.at
            key = self.key()
            self.tokens.append(key)
            if key in marks:
                first, _ = self.document.line_and_column(marks[key][0])
                self.complain(
                    key_at,
                    f"the key {_quoted(key)} stands twice in this object (first on line {first})",
                    "keep one of the two",
                )
            self.skip()
            if self.text[self.at : self.at + 1] != ":":
                self.stop(
                    self.at,
                    f"{self.here()} follows the key {_quoted(key)}, where a colon must stand",
                    'write a key as "name": value',
                )
            self.at += 1
            self.skip()
            read, mark = self.value()
            self.tokens.pop()
            if key not in marks:
                value[key] = read
                marks[key] = (key_at, mark)
        return value, (start, marks)

    def key(self) -> str:
        """Read a key, with or (with a problem) without its quotes."""
        if self.text[self.at : self.at + 1] == '"':
            start = self.at
            key = self.string()
            return key if isinstance(key, str) else self.text[start + 1 : self.at - 1]
        word = _WORD.match(self.text, self.at)
        if word is None:
            self.stop(
                self.at,
                f"{self.here()} stands where a key must stand",
                'write a key in double quotes, as in "name": value',
            )
        self.complain(self.at, f"the key {word.group()} has no quotes", f'write "{word.group()}"')
        self.at = word.end()
        return word.group()

    def array(self) -> tuple[Any, Mark]:
        """Read a list."""
        start = self.at
        self.enter()
        value: list[Any] = []
        marks: list[Mark] = []
        while not self.closes("]", started=bool(marks)):
            self.tokens.append(len(value))
            read, mark = self.value()
            self.tokens.pop()
            value.append(read)
            marks.append(mark)
        return value, (start, marks)

    def closes(self, bracket: str, *, started: bool) -> bool:
        """Step over the comma before the next entry, or over the closing bracket."""
        end_of_last = self.at
        if started:
            self.skip()
        character = self.text[self.at : self.at + 1]
        if character == bracket:
            self.at += 1
            return True
        if not started:
            if character == ",":
                self.stop(self.at, "a comma stands before the first entry", "delete the comma")
            return False
        if character != ",":
            return self.no_comma(bracket, character, end_of_last)
        comma_at = self.at
        self.at += 1
        self.skip()
        if self.text[self.at : self.at + 1] == bracket:
            self.complain(
                comma_at, f"a comma stands before the closing {bracket}", "delete the comma"
            )
            self.at += 1
            return True
        return False

    def no_comma(self, bracket: str, character: str, end_of_last: int) -> bool:
        """Go on where only a comma is missing; give up where more is."""
        starts_key = character == '"'
        starts_value = starts_key or (character != "" and character in "{[-0123456789")
        if starts_key if bracket == "}" else starts_value:
            self.complain(
                end_of_last, f"a comma is missing before {self.here()}", "add the comma here"
            )
            return False
        if self.at >= len(self.text):
            found = f"the text ends before the closing {bracket}"
            self.stop(self.at, found, "look for a bracket that never closes")
        return self.stop(
            self.at,
            f"{self.here()} stands where a comma or {bracket} must stand",
            f"separate entries with commas and close them with {bracket}",
        )


def _quoted(text: str) -> str:
    """Text in JSON's own quotes, for messages."""
    return json.dumps(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
