from __future__ import annotations

import json
from pathlib import Path

import pytest

from caa_harness.errors import SpecError
from caa_harness.spec import (
    LayerRule,
    SpecErrors,
    family_size,
    load_spec,
    load_specs,
    sibling_specs,
)

GOOD = Path(__file__).parent / "specs" / "good"
BAD = Path(__file__).parent / "specs" / "bad"


def good():
    """A spec that says everything, as a plain object."""
    return json.loads((GOOD / "sycophancy.behavior.json").read_text(encoding="utf-8"))


def write(folder, spec, *, name="sycophancy"):
    path = folder / f"{name}.behavior.json"
    path.write_text(json.dumps(spec, indent=2), encoding="utf-8")
    return path


def test_a_folder_is_read_in_the_order_of_names():
    assert [spec.behavior for spec in load_specs(GOOD)] == [
        "corrigible-neutral-HHH",
        "refusal",
        "sycophancy",
    ]


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SpecError) as caught:
        load_specs(tmp_path)

    assert "the folder holds no spec, nothing is called *.behavior.json" in str(caught.value)
    assert "caa-harness init" in caught.value.remedy


def test_an_absent_folder_is_an_error(tmp_path):
    with pytest.raises(SpecError, match="there is no such folder"):
        load_specs(tmp_path / "none")


def test_problems_of_all_files_of_a_folder_come_together():
    with pytest.raises(SpecErrors) as caught:
        load_specs(BAD)

    assert {one.path for one in caught.value.problems} == set(BAD.iterdir())


def folder_of(tmp_path, **families):
    for name, family in families.items():
        spec = good() | {"behavior": name, "family": family}
        if family is None:
            del spec["family"]
        write(tmp_path, spec, name=name)
    return tmp_path


def test_a_family_counts_the_specs_of_the_folder_that_name_it(tmp_path):
    folder = folder_of(tmp_path, a="one", b="one", c="two", d=None)

    sizes = {spec.behavior: family_size(spec) for spec in load_specs(folder)}

    assert sizes == {"a": 2, "b": 2, "c": 1, "d": 1}


def test_a_family_whose_size_cannot_be_known_is_an_error(tmp_path):
    folder = folder_of(tmp_path, a="one", b="one")
    spec = load_spec(folder / "a.behavior.json")
    (folder / "b.behavior.json").write_text("{", encoding="utf-8")

    with pytest.raises(SpecErrors, match=r"b\.behavior\.json:1:2"):
        family_size(spec)


def test_siblings_are_the_other_specs_of_the_folder(tmp_path):
    folder = folder_of(tmp_path, a=None, b=None, c=None)

    siblings = sibling_specs(load_spec(folder / "b.behavior.json"))

    assert list(siblings) == ["a", "c"]
    assert siblings["a"].behavior == "a"


def test_specificity_without_siblings_is_an_error_at_the_claim(tmp_path):
    spec = load_spec(write(tmp_path, good()))

    with pytest.raises(SpecError) as caught:
        sibling_specs(spec)

    assert "but the folder has no such spec" in caught.value.found
    assert caught.value.where.endswith("/claims/8")
    assert "add the spec of another behavior" in caught.value.remedy


def test_specificity_against_an_absent_behavior_is_an_error_at_the_claim(tmp_path):
    folder = folder_of(tmp_path, b=None)
    spec = good()
    spec["claims"][8]["against"] = ["b", "flattery"]

    with pytest.raises(SpecError) as caught:
        sibling_specs(load_spec(write(folder, spec)))

    assert "the claim compares with flattery" in caught.value.found
    assert caught.value.remedy == "name behaviors of the folder (b)"


# Layers.


@pytest.mark.parametrize(
    ("rule", "model", "layer"),
    [
        (LayerRule(number=13, models={}), "meta-llama/Llama-2-7b-chat-hf", 13),
        (LayerRule(fraction=0.4, models={}), "any", 12),
        (LayerRule(fraction=0.0, models={}), "any", 0),
        (LayerRule(fraction=0.999, models={}), "any", 31),
        (LayerRule(fraction=0.4, models={"m": 3}), "m", 3),
        (LayerRule(number=13, models={"m": 3}), "org/m", 3),
        (LayerRule(number=13, models={"m": 3}), "/models/m/", 3),
        (LayerRule(number=13, models={"org/m": 4, "m": 3}), "org/m", 4),
        (LayerRule(number=13, models={"other/m": 3}), "org/m", 13),
    ],
)
def test_a_layer_rule_prefers_the_model_then_the_number_then_the_fraction(rule, model, layer):
    assert rule.resolve(num_layers=32, model=model) == layer


def test_a_fraction_of_depth_is_meant_in_decimal_digits():
    assert LayerRule(fraction=0.29, models={}).resolve(num_layers=100, model="m") == 29


def test_a_layer_outside_the_model_is_an_error_that_names_the_range(tmp_path):
    rule = load_spec(write(tmp_path, good() | {"layer": 13})).layer

    with pytest.raises(SpecError) as caught:
        rule.resolve(num_layers=8, model="org/small")

    assert "layer 13 is outside the model org/small" in caught.value.found
    assert "8 layers are counted from 0 to 7" in caught.value.found
    assert caught.value.where.endswith(": /layer")
    assert '"models": {"small": ...}' in caught.value.remedy
