"""Opening models: what works, and what each mistake is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_tokenizers import llama_2_kind
from tiny_models import direction, engine_of, random_model

from caa_harness.engines import Intervention
from caa_harness.engines.local import LocalEngine, open_local
from caa_harness.engines.local import _loading as loading
from caa_harness.errors import EngineError, PromptError

OPTIONS = ("Yes", "No")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = llama_2_kind()
    random_model("llama", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A folder of one's own to damage."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def ask(engine):
    prompts = [engine.writer.question("Is it so?", OPTIONS)]
    steer = Intervention(layer=1, direction=direction(), multiplier=1.0)
    return engine.answer_logprobs(prompts, [None, steer])


# -- what works -----------------------------------------------------------------------------


def test_a_saved_model_answers_as_it_did_in_memory(saved):
    engine = open_local(str(saved))

    np.testing.assert_array_equal(ask(engine).logprobs, ask(engine_of("llama")).logprobs)
    assert engine.card.template == "llama-2"
    assert engine.card.dtype == "float32"
    assert engine.card.attention == "sdpa"
    assert dict(engine.card.packages).keys() == {"torch", "transformers", "tokenizers", "numpy"}


def test_a_device_map_gives_the_same_answers(saved):
    """Accelerate's own hooks stand on the blocks then, beside ours."""
    plain, mapped = open_local(str(saved)), open_local(str(saved), device_map={"": "cpu"})

    np.testing.assert_array_equal(ask(mapped).logprobs, ask(plain).logprobs)
    assert mapped.card.device == "cpu"


def test_weights_that_are_elsewhere_until_needed_give_the_same_answers(saved):
    """The deltas and masks follow the blocks to where accelerate runs them."""
    from accelerate import cpu_offload

    model = random_model("llama", llama_2_kind())
    cpu_offload(model, execution_device=torch.device("cpu"))
    engine = LocalEngine(model, llama_2_kind())

    assert engine.card.device == "cpu"
    np.testing.assert_array_equal(ask(engine).logprobs, ask(open_local(str(saved))).logprobs)


def test_the_dtype_can_be_chosen(saved):
    assert open_local(str(saved), dtype="bfloat16").card.dtype == "bfloat16"


def test_the_attention_can_be_chosen(saved):
    assert open_local(str(saved), attention="eager").card.attention == "eager"


def test_the_template_can_be_chosen(saved):
    assert open_local(str(saved), template="plain").card.template == "plain"
    with pytest.raises(PromptError, match="unknown template"):
        open_local(str(saved), template="fancy")


def test_the_digest_is_that_of_the_weights(saved, copy):
    before = open_local(str(copy)).card
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1.0
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    after = open_local(str(copy)).card

    assert before.weights_digest == open_local(str(saved)).card.weights_digest
    assert after.weights_digest != before.weights_digest
    assert after.tokenizer_digest == before.tokenizer_digest


def test_the_digest_in_memory_is_that_of_the_tensors():
    one, same, other = (engine_of("llama", seed=seed).card for seed in (0, 0, 1))

    assert one.weights_digest == same.weights_digest != other.weights_digest


def test_the_tokenizer_digest_knows_the_chat_template():
    model = random_model("llama", llama_2_kind())
    cards = [LocalEngine(model, llama_2_kind(template=t)).card for t in (None, "{{ messages }}")]

    assert cards[0].tokenizer_digest != cards[1].tokenizer_digest


def test_loading_is_silent_and_leaves_the_progress_bars_on(saved, capfd):
    from transformers.utils import logging

    open_local(str(saved))
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_auto_takes_the_checkpoints_dtype_on_a_gpu_and_float32_on_a_cpu():
    config = random_model("llama").config
    config.dtype = torch.bfloat16

    assert loading.choose_dtype("auto", torch.device("cuda"), config) is torch.bfloat16
    assert loading.choose_dtype("auto", torch.device("cpu"), config) is torch.float32


# -- what does not --------------------------------------------------------------------------


def refused(words, *args, **options):
    with pytest.raises(EngineError) as caught:
        open_local(*args, **options)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_a_folder_that_is_not_there(tmp_path):
    refused(["there is no such folder", "name the folder of a model"], str(tmp_path / "nothing"))


def test_a_file_in_place_of_a_folder(saved):
    refused(["this is a file, not a folder"], str(saved / "config.json"))


def test_a_folder_without_a_model(tmp_path):
    refused(["holds no config.json", "save_pretrained"], str(tmp_path))


def test_pitfall_19_pickled_weights_are_not_read(copy):
    """A pickle can run code; torch.load is never reached."""
    weights = load_file(copy / "model.safetensors")
    torch.save(weights, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()

    refused(["no usable safetensors weights", "other formats can run code"], str(copy))


def test_pitfall_19_code_in_the_folder_is_not_run(copy):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.Evil"}
    config["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text("raise SystemExit('this code was run')")

    refused(["cannot be loaded"], str(copy))


def test_damaged_weights(copy):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])

    refused([str(copy), "try: "], str(copy))


def test_a_folder_without_a_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()

    refused(["tokenizer.json", "try: "], str(copy))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(copy, value):
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, :3] = value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})

    said = ["3 of 1536 weights of model.layers.1.mlp.up_proj.weight are NaN or infinite"]
    refused([*said, "undamaged checkpoint"], str(copy))


def test_an_unknown_architecture():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=400)
    with pytest.raises(EngineError, match=r"unknown architecture 'gpt2'(.|\n)*Llama, Mistral"):
        LocalEngine(GPT2LMHeadModel(config).eval(), llama_2_kind())


def test_a_model_in_training_mode():
    tokenizer = llama_2_kind()
    with pytest.raises(EngineError, match=r"training mode(.|\n)*model.eval\(\)"):
        LocalEngine(random_model("llama", tokenizer).train(), tokenizer)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(saved):
    refused(["sees no CUDA device", "choose 'cpu'"], str(saved), device="cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_an_unknown_device(saved, device):
    refused([f"device {device!r}", "choose 'cpu', 'cuda'"], str(saved), device=device)


@pytest.mark.parametrize("dtype", ["fp32", "float64", "int8", ""])
def test_an_unknown_dtype(saved, dtype):
    said = [f"unknown dtype {dtype!r}", "auto, float32, bfloat16, float16"]
    refused(said, str(saved), dtype=dtype)


def test_an_unknown_attention(saved):
    said = ["unknown attention implementation 'flash_attention_2'", "choose 'sdpa' or 'eager'"]
    refused(said, str(saved), attention="flash_attention_2")


def test_a_batch_of_nothing(saved):
    refused(["a batch of 0 tokens"], str(saved), batch_tokens=0)


def test_a_prompt_longer_than_the_context():
    engine = engine_of("llama")
    fits = engine.writer.open_ended("x" * 240)

    with pytest.raises(EngineError, match=r"a prompt of \d+ tokens and 20 to come.*holds 256"):
        engine.generate([fits], [None], max_new_tokens=20)
    long = engine.writer.question("x" * 300, OPTIONS)
    with pytest.raises(EngineError, match=r"context holds 256(.|\n)*shorten the question"):
        engine.answer_logprobs([long], [None])


# -- the hub --------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine that answers every request with one status."""
    from huggingface_hub import constants

    answer = {"status": 404, "code": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(answer["status"])
            self.send_header("X-Error-Code", answer["code"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - the name that the server looks for

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield answer
    server.shutdown()
    server.server_close()


def test_a_gated_model(hub):
    hub.update(status=403, code="GatedRepo")

    said = ["some/model: the model is gated", "accept its licence", "hf auth login"]
    refused(said, "some/model")


def test_a_model_that_the_hub_does_not_have(hub):
    hub.update(status=404, code="RepoNotFound")

    refused(["the hub has no such model or revision", "check the name (owner/name)"], "some/model")


def test_a_hub_out_of_reach(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    said = ["neither a folder nor in the cache", "hf download", "or name its folder"]
    refused(said, "some/model")


# -- without the packages -------------------------------------------------------------------


def test_a_missing_package_is_told_with_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from caa_harness.errors import EngineError\n"
        "try:\n    import caa_harness.engines.local\n"
        "except EngineError as error:\n    print(error)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=root, capture_output=True, text=True
    )

    assert "torch is not installed" in run.stdout
    assert "try: pip install 'caa-harness[local]'" in run.stdout
