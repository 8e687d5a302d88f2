"""Options: what is allowed, who wins, and what a mistake is told."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--caa-dtype", "float23"], ["--caa-dtype: 'float23'*", "*float32, bfloat16*'float32'?*"]),
        (["--caa-device", "tpu"], ["--caa-device: 'tpu'*", "*auto, cpu, mps, cuda, or cuda:N*"]),
        (["--caa-template", "llama"], ["--caa-template: 'llama'*", "*llama-2, chat-template*"]),
        (["--caa-positions", "all"], ["--caa-positions: 'all'*", "*after_prompt, from_prompt_*"]),
        (["--caa-layer", "-1"], ["--caa-layer: '-1'*", "*counted from 0*"]),
        (["--caa-layer", "middle"], ["--caa-layer: 'middle'*", "*counted from 0*"]),
        (["--caa-batch-tokens", "0"], ["--caa-batch-tokens: '0'*", "*at least 1*"]),
        (["--caa-open-ended", "few"], ["--caa-open-ended: 'few'*", "*a number of prompts*"]),
        (["--caa-model", ""], ["--caa-model: ''*", "*a name that is not empty*"]),
        (["--caa-replay", "nowhere"], ["--caa-replay: *nowhere'*", "*--caa-record has filled*"]),
        (["--caa-json", "."], ["--caa-json: *", "*a file's path*"]),
        (["--caa-record", "taken"], ["--caa-record: *taken'*", "*a folder, which may be new*"]),
        (["--caa-record", "a", "--caa-replay", "."], ["--caa-replay: *", "*one of --caa-record*"]),
        (["-o", "caa_dtype=half"], ["caa_dtype in the ini file: 'half'*", "*float16*"]),
        (["-o", "caa_inconclusive=pass"], ["caa_inconclusive in*'pass'*", "*fail, warn, skip"]),
        (["-o", "caa_files=*.json"], ["caa_files in*", "*more than '.json'*"]),
    ],
)
def test_a_value_that_cannot_be_used_is_told_what_is_allowed(pytester, arguments, words):
    pytester.path.joinpath("taken").touch()

    result = pytester.runpytest_inprocess(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words[0]}", f"  allowed: {words[1]}"])


def settings_of(pytester, *arguments):
    config = pytester.parseconfigure(*arguments)
    from pytest_caa.options import settings_key

    return config.stash[settings_key]


def test_the_command_line_wins_over_the_ini_file_and_that_over_the_default(pytester):
    pytester.makeini("[pytest]\ncaa_dtype = bfloat16\ncaa_device = cpu\n")

    settings = settings_of(pytester, "--caa-dtype", "float16")

    assert settings.run["dtype"] == "float16"
    assert settings.run["device"] == "cpu"
    assert settings.run["positions"] == "after_prompt"
    assert settings.run["model"] == "embedded"


def test_a_model_folder_in_the_ini_file_starts_at_the_root_folder(pytester):
    pytester.mkdir("llama")
    pytester.makeini("[pytest]\ncaa_model = llama\n")

    settings = settings_of(pytester)

    assert settings.run["model"] == str(pytester.path / "llama")


def test_the_arguments_are_those_of_the_run(pytester):
    from dataclasses import fields

    from caa_harness.pipeline import RunOptions

    settings = settings_of(pytester)

    assert settings.run.keys() == {field.name for field in fields(RunOptions)} - {"shared_folder"}


@pytest.mark.parametrize("arguments", [[], ["--caa-model", "fake"]])
def test_a_required_model_refuses_every_other(pytester, arguments):
    result = pytester.runpytest_inprocess("--caa-require", "org/llama-2-7b", *arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*this run would use '*', not 'org/llama-2-7b'", "  try: *"])


def test_a_required_model_may_be_used(pytester):
    settings = settings_of(pytester, "--caa-require", "fake", "--caa-model", "fake")

    assert settings.require == "fake"


def test_every_option_is_in_the_help(pytester):
    from pytest_caa.options import OPTIONS

    result = pytester.runpytest_inprocess("--help")

    shown = result.stdout.str()
    assert all(option.flag in shown for option in OPTIONS)
    assert all(option.key in shown for option in OPTIONS if option.ini)
    assert "caa_inconclusive" in shown


def test_without_the_plugin_its_options_are_unknown(pytester, write_spec):
    write_spec()

    result = pytester.runpytest_inprocess("-p", "no:caa", "specs")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert pytester.runpytest_inprocess("-p", "no:caa", "--caa-model", "fake").ret == 4
