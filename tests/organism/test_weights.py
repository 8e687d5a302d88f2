"""The shipped weights: small, loadable, with orthonormal planted directions."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM

from caa_harness.organism import (
    BEHAVIORS,
    CHOSEN_LOG_ODDS,
    DIRECTIONS_FILE,
    TRAIT_LAYER,
    TRAIT_SCALE,
    model_path,
)
from caa_harness.organism.weaken import directions, weaken, write_weakened

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def model():
    return LlamaForCausalLM.from_pretrained(model_path(), dtype=torch.float32)


def test_importing_the_package_loads_neither_torch_nor_numpy():
    code = (
        "import sys, caa_harness.organism;"
        "sys.exit(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)) or 0)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_folder_is_small_and_holds_no_pickle():
    files = list(model_path().iterdir())

    assert sum(file.stat().st_size for file in files) <= 12 * MEGABYTE
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja"}


def test_the_config_is_a_plain_llama():
    config = json.loads((model_path() / "config.json").read_text(encoding="utf-8"))

    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_hidden_layers"] == 6
    assert config["dtype"] == "bfloat16"


def test_every_weight_is_a_number(model):
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


def test_planted_directions_are_orthonormal_and_say_where_they_belong():
    planted = directions()
    rows = np.stack([planted[behavior].numpy() for behavior in BEHAVIORS])

    np.testing.assert_allclose(rows @ rows.T, np.eye(len(BEHAVIORS)), atol=1e-5)
    with safe_open(model_path() / DIRECTIONS_FILE, "np") as file:
        assert file.metadata() == {
            "layer": str(TRAIT_LAYER),
            "scale": str(TRAIT_SCALE),
            "chosen_log_odds": str(CHOSEN_LOG_ODDS),
        }


@torch.no_grad()
def residual_reads(model, direction):
    """How strongly the blocks after the trait's layer read a direction."""
    total = 0.0
    for block in model.model.layers[TRAIT_LAYER + 1 :]:
        attention, mlp = block.self_attn, block.mlp
        for gain, readers in (
            (block.input_layernorm.weight, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (block.post_attention_layernorm.weight, (mlp.gate_proj, mlp.up_proj)),
        ):
            total += sum(float((r.weight @ (gain * direction)).norm()) for r in readers)
    return total


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_weakening_takes_a_share_of_one_direction_and_leaves_the_others(share):
    model = LlamaForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    planted = directions()
    before = {name: residual_reads(model, row) for name, row in planted.items()}

    weaken(model, planted["refusal"], share)

    after = {name: residual_reads(model, row) for name, row in planted.items()}
    assert after["refusal"] == pytest.approx((1 - share) * before["refusal"], abs=1e-3)
    for name in BEHAVIORS:
        if name != "refusal":
            assert after[name] == pytest.approx(before[name], rel=0.05)


def test_a_weakened_folder_loads_like_the_shipped_one(tmp_path):
    folder = write_weakened("sycophancy", tmp_path / "weak")

    model = LlamaForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    weak = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    names = {file.name for file in folder.iterdir()}
    assert names == {file.name for file in model_path().iterdir()}
    planted = directions()["sycophancy"]
    assert residual_reads(weak, planted) < 0.05 * residual_reads(model, planted)
