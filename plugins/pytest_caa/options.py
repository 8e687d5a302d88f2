"""Options of the command line and the ini file in, checked ``Settings`` out.

The command line wins over the ini file, the ini file over the default.  Every
value is checked before anything is collected, and nothing here opens a model
or imports numpy.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPORTS = ("json", "html", "markdown")
"""Options that name a report's file, in the order in which they are written."""
INCONCLUSIVE = ("fail", "warn", "skip")
CLAIM_TYPES = (
    "shift",
    "level",
    "dose_response",
    "capability",
    "answer_mass",
    "letter_part",
    "null",
    "specificity",
)

MARKER = (
    "caa(spec=None, specs=None): run a test on one behavior spec (spec='x.behavior.json'), or once "
    "per spec of a folder (specs='behavior_specs'), through the caa_* fixtures; collected claims "
    "carry it as well, with behavior, claim and type"
)


class _NotAllowedError(ValueError):
    """A value that an option cannot take; the message says what it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this session was asked for, checked."""

    run: Mapping[str, Any]
    """Arguments of ``caa_harness.pipeline.RunOptions``, without the shared folder."""
    require: str | None
    json: Path | None
    html: Path | None
    markdown: Path | None
    inconclusive: str
    patterns: tuple[str, ...]


settings_key = pytest.StashKey[Settings]()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """One ``--caa-NAME``; ``ini`` says whether ``caa_NAME`` can stand in the ini file as well."""

    name: str
    metavar: str
    help: str
    read: Callable[[str], object]
    default: str | None = None
    ini: bool = True

    @property
    def flag(self) -> str:
        return f"--caa-{self.name}"

    @property
    def key(self) -> str:
        return f"caa_{self.name}".replace("-", "_")


def _text(value: str) -> str:
    if not value.strip():
        message = "a name that is not empty"
        raise _NotAllowedError(message)
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in allowed:
            near = difflib.get_close_matches(value, allowed, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise _NotAllowedError(", ".join(allowed) + meant)
        return value

    return read


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", value):
        message = "auto, cpu, mps, cuda, or cuda:N with the number of a device, such as cuda:1"
        raise _NotAllowedError(message)
    return value


def _whole_number(least: int, words: str) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]+", value) or int(value) < least:
            raise _NotAllowedError(words)
        return int(value)

    return read


OPTIONS = (
    _Option(
        name="model",
        metavar="MODEL",
        default="embedded",
        help="model to measure: embedded (travels with caa-harness), fake (for tests of tests), "
        "a model folder, or a hub name such as meta-llama/Llama-2-7b-chat-hf",
        read=_text,
    ),
    _Option(
        name="device",
        metavar="DEVICE",
        default="auto",
        help="auto, cpu, mps, cuda, or one device such as cuda:1",
        read=_device,
    ),
    _Option(
        name="dtype",
        metavar="DTYPE",
        default="auto",
        help="auto (what the model's files say), float32, bfloat16 or float16",
        read=_one_of("auto", "float32", "bfloat16", "float16"),
    ),
    _Option(
        name="template",
        metavar="NAME",
        help="how prompts are written: llama-2, chat-template or plain; else the model decides",
        read=_one_of("llama-2", "chat-template", "plain"),
    ),
    _Option(
        name="layer",
        metavar="N",
        help="steer decoder block N, counted from 0, whatever the specs say",
        read=_whole_number(0, "a decoder block's number, counted from 0"),
    ),
    _Option(
        name="batch-tokens",
        metavar="N",
        help="most tokens in one batch; else the engine decides",
        read=_whole_number(1, "a number of tokens, at least 1"),
    ),
    _Option(
        name="open-ended",
        metavar="N",
        default="0",
        help="continue N open-ended prompts of each spec as well (in the JSON report)",
        read=_whole_number(0, "a number of prompts, 0 for none"),
    ),
    _Option(
        name="positions",
        metavar="RULE",
        default="after_prompt",
        help="tokens that are steered: after_prompt, or from_prompt_end (with the last of the "
        "user's turn, as the reference code does)",
        read=_one_of("after_prompt", "from_prompt_end"),
    ),
    _Option(
        name="require",
        metavar="MODEL",
        help="this model or nothing: refuse to run on any other, the embedded one included",
        read=_text,
    ),
    _Option(
        name="json",
        metavar="PATH",
        help="write the report caa-report/1 to PATH, whatever the outcome",
        read=_text,
        ini=False,
    ),
    _Option(
        name="html",
        metavar="PATH",
        help="write the report as one HTML page that needs no network and no script",
        read=_text,
        ini=False,
    ),
    _Option(
        name="markdown",
        metavar="PATH",
        help="write the report as Markdown (on GitHub the step summary gets it anyway)",
        read=_text,
        ini=False,
    ),
    _Option(
        name="record",
        metavar="DIR",
        help="leave the measurements in DIR, to be judged again without a model",
        read=_text,
        ini=False,
    ),
    _Option(
        name="replay",
        metavar="DIR",
        help="judge the measurements in DIR; no model is opened",
        read=_text,
        ini=False,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini key."""
    group = parser.getgroup("caa", "behavioural gate on CAA-steered language models (caa-harness)")
    for option in OPTIONS:
        default = f" (default: {option.default})" if option.default else ""
        group.addoption(
            option.flag,
            dest=option.key,
            metavar=option.metavar,
            default=None,
            help=option.help + default,
        )
        if option.ini:
            words = f"default of {option.flag}"
            parser.addini(option.key, words, type="string", default=option.default or "")
    parser.addini(
        "caa_inconclusive",
        "what an undecided claim does to its case: fail, warn (passes with a warning) or skip",
        type="string",
        default="fail",
    )
    parser.addini(
        "caa_files",
        "names of the files that are collected as behavior specs (shell patterns)",
        type="args",
        default=["*.behavior.json"],
    )


def read_settings(config: pytest.Config) -> Settings:
    """Check every option.

    Raises
    ------
    pytest.UsageError
        When a value is not allowed; says what is.
    """
    values = {option.key.removeprefix("caa_"): _value(config, option) for option in OPTIONS}
    require = values.pop("require")
    here = config.invocation_params.dir
    reports = {name: values.pop(name) for name in REPORTS}
    reports = {name: here / path if path else None for name, path in reports.items()}
    for name in ("record", "replay"):
        values[name] = here / values[name] if values[name] else None
    _check_paths(reports, record=values["record"], replay=values["replay"])
    if values["replay"] is None and require and values["model"] != require:
        message = (
            f"--caa-require: this run would use {values['model']!r}, not {require!r}\n"
            f"  try: --caa-model {require}"
        )
        raise pytest.UsageError(message)
    inconclusive = config.getini("caa_inconclusive")
    if inconclusive not in INCONCLUSIVE:
        raise _refusal("caa_inconclusive in the ini file", inconclusive, ", ".join(INCONCLUSIVE))
    patterns = tuple(config.getini("caa_files"))
    if not patterns or any(not _says_more_than_json(pattern) for pattern in patterns):
        words = "patterns that name more than '.json', such as '*.behavior.json'"
        raise _refusal("caa_files in the ini file", " ".join(patterns), words)
    return Settings(
        run=values,
        require=require,
        **reports,
        inconclusive=inconclusive,
        patterns=patterns,
    )


def _value(config: pytest.Config, option: _Option) -> Any:
    """One option's checked value, from the most specific place that has one."""
    given = config.getoption(option.key)
    where = option.flag
    if given is None and option.ini:
        given = config.getini(option.key)
        where = f"{option.key} in the ini file"
        if given == "":
            given = None
        elif option.name == "model" and (config.rootpath / given).is_dir():
            given = str(config.rootpath / given)
    if given is None:
        given = option.default
    if given is None:
        return None
    try:
        return option.read(given)
    except _NotAllowedError as error:
        raise _refusal(where, given, str(error)) from None


def asked_device(config: pytest.Config) -> str:
    """Return the device as it was asked for, unchecked: xdist asks before the session starts."""
    return config.getoption("caa_device") or config.getini("caa_device")


def _says_more_than_json(pattern: str) -> bool:
    """Whether a pattern leaves plain ``*.json`` files alone."""
    return bool(re.sub(r"[*?.]|\[.*?\]", "", pattern.removesuffix(".json")))


def _check_paths(
    reports: Mapping[str, Path | None], *, record: Path | None, replay: Path | None
) -> None:
    """Refuse paths that cannot be written or read, before anything is measured."""
    for name, path in reports.items():
        if path is not None and (path.is_dir() or path.parent.is_file()):
            raise _refusal(f"--caa-{name}", str(path), "a file's path")
        others = [other for other in REPORTS if other != name and reports[other] == path]
        if path is not None and others:
            words = f"a path of its own, not that of --caa-{others[0]}"
            raise _refusal(f"--caa-{name}", str(path), words)
    if record is not None and record.exists() and not record.is_dir():
        raise _refusal("--caa-record", str(record), "a folder, which may be new")
    if replay is not None and not replay.is_dir():
        words = "a folder that --caa-record has filled"
        raise _refusal("--caa-replay", str(replay), words)
    if record is not None and replay is not None:
        words = "one of --caa-record and --caa-replay"
        raise _refusal("--caa-replay", "with --caa-record", words)


def _refusal(where: str, value: str, allowed: str) -> pytest.UsageError:
    return pytest.UsageError(f"{where}: {value!r} cannot be used\n  allowed: {allowed}")
