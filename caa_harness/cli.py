"""The harness's verbs without pytest.

Each verb reads its options, calls one function of a lower floor and prints what
came back; nothing is decided here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from caa_harness import __version__
from caa_harness.errors import HarnessError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caa_harness.spec import BehaviorSpec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it worked, 1 when a claim is not supported, 2 on a user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except HarnessError as error:
        print(f"caa-harness: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="caa-harness",
        description="Behaviour specs in, steered measurements and verdicts out.",
        epilog="The gate itself is pytest: `pytest behavior_specs`.",
    )
    parser.add_argument("--version", action="version", version=f"caa-harness {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = _verb(verbs, "init", "lay out the shipped specs in a folder", "init behavior_specs")
    verb.add_argument("folder", type=Path, help="folder to create or to add to")
    verb.set_defaults(run=_init)

    verb = _verb(
        verbs,
        "new",
        "write a starter spec, a tiny example to replace",
        "new brevity --folder specs",
    )
    verb.add_argument("behavior", help="name of the behavior, and of its files")
    verb.add_argument("--folder", type=Path, default=Path(), help="where; the working folder")
    verb.set_defaults(run=_new)

    verb = _verb(verbs, "check", "read specs and say what is wrong with them", "check my_specs")
    verb.add_argument("paths", type=Path, nargs="+", help="spec files, or folders of them")
    verb.add_argument("--strict", action="store_true", help="end with 1 where there are warnings")
    verb.add_argument("--model", help="write the prompts with this model's tokenizer as well")
    verb.add_argument("--review", type=int, default=5, help="rows to print for reading; 5")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(run=_check)

    _add_writing_verbs(verbs)

    verb = _verb(
        verbs, "schema", "print the JSON schema of spec files", "schema > spec.schema.json"
    )
    verb.set_defaults(run=_schema)

    verb = _verb(
        verbs,
        "measure",
        "measure specs and record the numbers",
        "measure behavior_specs --record recorded",
    )
    verb.add_argument("paths", type=Path, nargs="+", help="spec files, or folders of them")
    verb.add_argument("--record", type=Path, required=True, help="folder for the measurements")
    verb.add_argument("--model", default="embedded", help="embedded, a folder or a hub name")
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    verb.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    verb.set_defaults(run=_measure)

    verb = _verb(
        verbs,
        "judge",
        "judge recorded measurements, without a model",
        "judge behavior_specs --replay recorded",
    )
    verb.add_argument("paths", type=Path, nargs="+", help="spec files, or folders of them")
    verb.add_argument("--replay", type=Path, required=True, help="folder of measurements")
    verb.set_defaults(run=_judge)

    verb = _verb(
        verbs,
        "import-caa",
        "turn the published CAA data into specs and measurements",
        "import-caa CAA/datasets --results CAA/results --out caa_specs",
    )
    verb.add_argument("datasets", type=Path, help="the `datasets` folder of the reference")
    verb.add_argument("--results", type=Path, help="the `results` folder of the reference")
    verb.add_argument("--out", type=Path, required=True, help="folder for what is made")
    verb.set_defaults(run=_import_caa)

    _add_report_verbs(verbs)
    return parser


def _add_report_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Verbs that read what ``pytest --caa-json`` has written."""
    verb = _verb(
        verbs,
        "report",
        "turn a JSON report into pages for people",
        "report caa-report.json --html caa-report.html",
    )
    verb.add_argument("report", type=Path, help="what `pytest --caa-json` has written")
    verb.add_argument("--html", type=Path, help="one HTML page: no network, no script")
    verb.add_argument("--markdown", type=Path, help="Markdown, as for GitHub's step summary")
    verb.set_defaults(run=_report)

    verb = _verb(
        verbs,
        "compare",
        "say which verdicts changed between two JSON reports (0: none is worse; 1: one is worse, "
        "a claim is gone, or AFTER is incomplete; 2: not comparable)",
        "compare last-release.json caa-report.json",
    )
    verb.add_argument("before", type=Path, help="the earlier report")
    verb.add_argument("after", type=Path, help="the later report")
    verb.set_defaults(run=_compare)


def _add_writing_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Verbs for those who write specs."""
    verb = _verb(
        verbs,
        "explain",
        "say what specs ask, what they can find and what they cost",
        "explain brevity.behavior.json --tokens-per-second 20000",
    )
    verb.add_argument("paths", type=Path, nargs="+", help="spec files, or folders of them")
    verb.add_argument("--sd", type=float, help="spread of one question's number; by claim type")
    verb.add_argument("--tokens-per-second", type=float, help="measured speed of the model")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(run=_explain)

    verb = _verb(
        verbs,
        "selfcheck",
        "measure how often the gate is wrong on your own model",
        "selfcheck my_specs --model meta-llama/Llama-2-7b-chat-hf",
    )
    verb.add_argument("paths", type=Path, nargs="+", help="spec files, or folders of them")
    verb.add_argument("--model", default="embedded", help="embedded, a folder or a hub name")
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    verb.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    verb.add_argument("--draws", type=int, default=199, help="foreign vectors of each kind; 199")
    verb.add_argument("--json", action="store_true", help="as JSON")
    verb.set_defaults(run=_selfcheck)

    verb = _verb(
        verbs, "fmt", "write specs and their rows in the canonical layout", "fmt my_specs --check"
    )
    verb.add_argument("paths", type=Path, nargs="+", help="spec or JSONL files, or folders")
    verb.add_argument("--check", action="store_true", help="change nothing; 1 where files differ")
    verb.set_defaults(run=_fmt)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    example: str,
) -> argparse.ArgumentParser:
    """One verb with its help and an example."""
    return verbs.add_parser(
        name,
        help=words,
        description=words[:1].upper() + words[1:] + ".",
        epilog=f"example: caa-harness {example}",
    )


def _init(options: argparse.Namespace) -> int:
    """Copy the shipped specs; refuse to overwrite anything."""
    from caa_harness.shipped import specs_folder

    source = specs_folder()
    files = [path for path in sorted(source.iterdir()) if path.is_file()]
    for path in files:
        if (options.folder / path.name).exists():
            raise OptionError(
                "a file of that name is already there",
                where=str(options.folder / path.name),
                remedy="name an empty folder",
            )
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, options.folder / path.name)
    print(f"{len(files)} files in {options.folder}; next: pytest {options.folder}")
    return 0


def _new(options: argparse.Namespace) -> int:
    """Write a starter; refuse to overwrite anything."""
    from caa_harness.authoring.starter import write_starter

    paths = write_starter(options.behavior, options.folder)
    for path in paths:
        print(f"wrote {path}")
    print(f"next: replace the rows, then caa-harness check {paths[-1]}")
    return 0


def _check(options: argparse.Namespace) -> int:
    """Read every spec; print what was found in each, warnings included."""
    from caa_harness.authoring.lint import lint, lint_json, lint_prompts, lint_text

    if options.review < 0:
        raise OptionError(
            f"{options.review} rows cannot be read", where="--review", remedy="give 0 or more"
        )
    found = [(spec, lint(spec)) for spec in _specs(options.paths)]
    if options.model is not None:
        from caa_harness.organism import model_path
        from caa_harness.prompts import open_writer

        embedded = options.model == "embedded"
        writer = open_writer(str(model_path()) if embedded else options.model)
        found = [(spec, findings + lint_prompts(spec, writer)) for spec, findings in found]
    if options.json:
        told = [lint_json(spec, findings, options.review) for spec, findings in found]
        print(json.dumps({"specs": told}, indent=2))
    else:
        print("\n".join(lint_text(spec, findings, options.review) for spec, findings in found))
    return int(options.strict and any(findings for _, findings in found))


def _explain(options: argparse.Namespace) -> int:
    """Plan the gate of every spec; nothing is measured."""
    from caa_harness.authoring.explain import explain, explanation_text, explanations_json

    explained = [
        explain(spec, sd=options.sd, tokens_per_second=options.tokens_per_second)
        for spec in _specs(options.paths)
    ]
    if options.json:
        print(explanations_json(explained))
    else:
        print("\n\n".join(map(explanation_text, explained)))
    return 0


def _selfcheck(options: argparse.Namespace) -> int:
    """Check every spec's gate; 1 unless each can be trusted."""
    from caa_harness.pipeline import Run, RunOptions
    from caa_harness.selfcheck import self_check, self_check_json, self_check_text

    run = Run(RunOptions(model=options.model, device=options.device, dtype=options.dtype))
    checks = [self_check(one, run.engine, draws=options.draws) for one in _specs(options.paths)]
    if options.json:
        print(json.dumps({"specs": [self_check_json(check) for check in checks]}, indent=2))
    else:
        print("\n\n".join(map(self_check_text, checks)))
    return 0 if all(check.is_trusted for check in checks) else 1


def _fmt(options: argparse.Namespace) -> int:
    """Lay files out, or say which are not."""
    from caa_harness.authoring.layout import format_files

    changed = format_files(options.paths, write=not options.check)
    for path in changed:
        print(f"{path}: {'not in the canonical layout' if options.check else 'laid out'}")
    return int(options.check and bool(changed))


def _schema(options: argparse.Namespace) -> int:  # noqa: ARG001
    """Print the schema as it travels with the package."""
    from caa_harness.spec import schema_text

    print(schema_text(), end="")
    return 0


def _measure(options: argparse.Namespace) -> int:
    """Measure and record; nothing is judged."""
    from caa_harness.pipeline import Run, RunOptions

    run = Run(
        RunOptions(
            model=options.model, device=options.device, dtype=options.dtype, record=options.record
        )
    )
    for spec in _specs(options.paths):
        measured = run.measurements(spec)
        print(f"{spec.behavior}: {len(measured.questions)} held-out questions measured")
    return 0


def _judge(options: argparse.Namespace) -> int:
    """Judge recorded measurements; 1 unless every claim passes."""
    from caa_harness.pipeline import Run, RunOptions
    from caa_harness.report.document import behavior_document
    from caa_harness.report.terminal import verdict_block

    run = Run(RunOptions(replay=options.replay))
    outcomes = []
    for spec in _specs(options.paths):
        verdicts = run.verdicts(spec)
        document = behavior_document(spec, run.measurements(spec), verdicts, run.summary(spec))
        for claim in document["claims"]:
            print(verdict_block(document, claim), end="\n\n")
        outcomes += [verdict.outcome for verdict in verdicts]
    counts = ", ".join(
        f"{outcomes.count(name)} {name}" for name in ("pass", "fail", "inconclusive")
    )
    print(f"{len(outcomes)} claims: {counts}")
    return 0 if outcomes and set(outcomes) == {"pass"} else 1


def _report(options: argparse.Namespace) -> int:
    """Write the pages of a report that a session left."""
    from caa_harness.report.html import write_html
    from caa_harness.report.markdown import write_markdown
    from caa_harness.report.reading import read_report

    if options.html is None and options.markdown is None:
        raise OptionError(
            "no page is asked for",
            where="caa-harness report",
            remedy="add --html PATH, --markdown PATH or both",
        )
    document = read_report(options.report)
    for write, path in ((write_html, options.html), (write_markdown, options.markdown)):
        if path is not None:
            write(document, path)
            print(path)
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Say what changed; 1 when something is worse."""
    from caa_harness.report.compare import compare
    from caa_harness.report.reading import read_report

    found = compare(read_report(options.before), read_report(options.after))
    print(found.text)
    return 1 if found.is_worse else 0


def _import_caa(options: argparse.Namespace) -> int:
    """Make specs and measurements of the published data, and print what they say."""
    from caa_harness.published import import_caa

    print(import_caa(options.datasets, options.results, options.out))
    return 0


def _specs(paths: Sequence[Path]) -> list[BehaviorSpec]:
    """Read the spec files that ``paths`` name, folders opened."""
    from caa_harness.spec import load_spec, load_specs

    return [
        spec
        for path in paths
        for spec in (load_specs(path) if path.is_dir() else [load_spec(path)])
    ]
