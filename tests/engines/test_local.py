"""The local engine's inside: what its hooks touch, and the mistakes that other code has made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from small_tokenizers import gemma_kind, llama_2_kind
from tiny_models import (
    D_MODEL,
    FAMILIES,
    NUM_LAYERS,
    direction,
    engine_of,
    random_model,
    shared_engine,
)
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from caa_harness.engines import Intervention
from caa_harness.engines.local import LocalEngine
from caa_harness.engines.local._blocks import Anatomy, Delta, Ledger, adding, reading
from caa_harness.errors import EngineError

OPTIONS = ("Yes", "No")
RULES = ["after_prompt", "from_prompt_end"]


def steer(layer=1, multiplier=1.0, positions="after_prompt", seed=0, norm=3.0):
    return Intervention(
        layer=layer, direction=direction(seed, norm), multiplier=multiplier, positions=positions
    )


def questions(engine, *texts):
    return [engine.writer.question(text, OPTIONS) for text in texts or ("Is it?", "Is it so?")]


def streams(engine, prompt, intervention):
    """Residual stream after every block but the last, seen from the next block.

    The trunk comes by first, whole; then the branch, which stands for the tokens it has.
    """
    seen = {layer: [] for layer in range(NUM_LAYERS - 1)}
    handles = []
    for layer, reader in enumerate(list(engine._anatomy.decoder.layers)[1:]):

        def see(_module, inputs, layer=layer):
            seen[layer].append(inputs[0][0].clone())

        handles.append(reader.register_forward_pre_hook(see))
    try:
        engine.answer_logprobs([prompt], [intervention])
    finally:
        for handle in handles:
            handle.remove()
    return {
        layer: torch.cat([trunk[: len(trunk) - len(branch)], branch])
        for layer, (trunk, branch) in (
            (layer, parts if len(parts) > 1 else (parts[0], parts[0][:0]))
            for layer, parts in seen.items()
        )
    }


# -- what the delta reaches -----------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positions", RULES)
def test_the_delta_reaches_its_layer_and_its_tokens_alone(family, positions):
    """Pitfall 3: seen from the next module; ``output_hidden_states`` may be read too early."""
    engine = shared_engine(family)
    (prompt,) = questions(engine, "Is it so?")
    intervention = steer(layer=1, multiplier=-2.0, positions=positions)
    start = prompt.prompt_end - (positions == "from_prompt_end")

    plain = streams(engine, prompt, None)
    steered = streams(engine, prompt, intervention)
    for layer in plain:
        assert steered[layer].shape == (len(prompt.ids), D_MODEL)
        moved = (steered[layer] - plain[layer]).abs().amax(dim=1)
        assert moved[:start].max() < 1e-5
        if layer < 1:
            assert moved[start:].max() < 1e-5
        else:
            assert moved[start:].min() > 0.1
    added = (steered[1] - plain[1])[start:].numpy()
    np.testing.assert_allclose(added, np.tile(-2.0 * direction(), (len(added), 1)), atol=1e-5)


@pytest.mark.parametrize("multiplier", [-3.0, -0.5, 0.25, 2.0])
def test_the_delta_is_linear_in_the_multiplier(multiplier):
    engine = shared_engine("llama")
    (prompt,) = questions(engine, "Is it so?")

    plain = streams(engine, prompt, None)[2]
    added = streams(engine, prompt, steer(layer=2, multiplier=multiplier))[2] - plain
    np.testing.assert_allclose(added[-1], multiplier * direction(), atol=1e-5)


# -- pitfalls that other code fell into -----------------------------------------------------


class Block(torch.nn.Module):
    """Doubles what it gets, and returns it as older and newer transformers do."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, hidden):
        return (2 * hidden, "attention") if self.form == "tuple" else 2 * hidden


def anatomy_of(*blocks):
    unused = dict.fromkeys(f.name for f in dataclasses.fields(Anatomy))
    return Anatomy(**{**unused, "blocks": blocks})


@pytest.mark.parametrize("form", ["tensor", "tuple"])
def test_pitfall_01_blocks_may_return_a_tensor_or_a_tuple(form):
    """``output[0]`` of a tensor is the first row of the batch, and steers nothing else."""
    block = Block(form)
    hidden = torch.arange(12.0).reshape(3, 2, 2)
    delta = Delta(add=torch.ones(1, 2), positions=torch.tensor([1]), weights=(1,), starts=(True,))
    ledger, seen = Ledger(), {}

    with adding(anatomy_of(block), {0: delta}, ledger):
        output = block(hidden)
    result = output[0] if form == "tuple" else output
    np.testing.assert_array_equal(result[:, 0], 2 * hidden[:, 0])
    np.testing.assert_array_equal(result[:, 1], 2 * hidden[:, 1] + 1)
    assert isinstance(output, tuple) == (form == "tuple")
    assert (ledger.num_rows, ledger.num_positions, ledger.layers) == (3, 3, {0})

    with reading(anatomy_of(block), [0], seen):
        block(hidden)
    np.testing.assert_array_equal(seen[0], 2 * hidden)


def test_pitfall_02_the_last_layers_residual_is_not_normed():
    engine = shared_engine("llama")
    (prompt,) = questions(engine, "Is it?")
    (batch,) = engine.answer_residuals([prompt], range(NUM_LAYERS))

    ids = torch.tensor([[*prompt.ids, prompt.letter_ids[0]]])
    with torch.no_grad():
        states = engine._model(ids, output_hidden_states=True).hidden_states
    theirs = torch.stack([state[0, -1] for state in states[1:]]).numpy()
    ours = batch.residuals[0, 0]
    np.testing.assert_allclose(ours[:-1], theirs[:-1], atol=1e-5)
    assert np.abs(ours[-1] - theirs[-1]).max() > 0.1
    normed = engine._anatomy.decoder.norm(torch.from_numpy(ours[-1])).detach()
    np.testing.assert_allclose(normed, theirs[-1], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 3])
def test_pitfall_04_every_generated_token_is_steered(family, layer):
    """Against full recomputation with transformers alone and a hook over whole sequences."""
    engine = shared_engine(family)
    interventions = [None, *(steer(layer, 2.0, positions, norm=9.0) for positions in RULES)]
    prompts = [engine.writer.open_ended(text) for text in ("Why?", "Why do you say it is so?")]
    generations = engine.generate(prompts, interventions, max_new_tokens=6)

    fed = 0
    for prompt, texts in zip(prompts, generations.texts, strict=True):
        for intervention, text in zip(interventions, texts, strict=True):
            new = recompute(engine, prompt, intervention, 6)
            spoken = engine.writer.tokenizer.decode(new, skip_special_tokens=True).strip()
            assert text == spoken
            if intervention is not None:
                fed += len(new) - 1 + (intervention.positions == "from_prompt_end")
    assert len({*generations.texts[0], *generations.texts[1]}) > 2
    assert generations.receipt.num_positions == fed


def recompute(engine, prompt, intervention, num):
    """Greedy decoding without a cache, batch or padding."""
    ids, new = list(prompt.ids), []
    blocks = engine._anatomy.blocks
    for _ in range(num):
        handles = []
        if intervention is not None:
            start = prompt.prompt_end - (intervention.positions == "from_prompt_end")
            vector = intervention.multiplier * torch.from_numpy(intervention.direction)

            def add(_block, _inputs, output, start=start, vector=vector):
                steered = torch.arange(output.shape[1])[None, :, None] >= start
                return output + steered * vector

            handles.append(blocks[intervention.layer].register_forward_hook(add))
        with torch.no_grad():
            logits = engine._model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        for handle in handles:
            handle.remove()
        new.append(int(logits.argmax()))
        ids.append(new[-1])
        if new[-1] in engine._passes._ends:
            break
    return new


def test_pitfall_04_a_row_that_ended_does_not_stop_the_others():
    """A token that comes early in some rows and late or never in others ends rows here."""
    engine = engine_of("llama")
    texts = ["Why?", "Who is it?", "So?", "Is it?", "How many are there?", "It is what it is."]
    prompts = [engine.writer.open_ended(text) for text in texts]
    free = [recompute(engine, prompt, None, 8) for prompt in prompts]

    def lengths(end):
        return {row.index(end) if end in row else len(row) for row in free}

    end = max(sorted({token for row in free for token in row}), key=lambda t: len(lengths(t)))
    engine._passes._ends = frozenset([end])
    assert len(lengths(end)) > 1

    expected = [recompute(engine, prompt, None, 8) for prompt in prompts]
    generations = engine.generate(prompts, [None], max_new_tokens=8)
    assert [text for (text,) in generations.texts] == [
        engine.writer.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in expected
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_pitfall_05_and_06_every_row_of_a_batch_is_steered(family):
    engine = shared_engine(family)
    prompts = questions(engine, "Is it?", "Is it the case that it is so?", "Why?")
    together = engine.answer_logprobs(prompts, [None, steer()]).logprobs

    assert (np.abs(together[:, 1] - together[:, 0]).max(axis=1) > 1e-3).all()


def test_pitfall_06_nothing_of_the_model_or_tokenizer_is_changed():
    engine = engine_of("llama")
    model, tokenizer = engine._model, engine.writer.tokenizer
    before = everything_of(model), repr(tokenizer), tokenizer.backend_tokenizer.to_str()

    ask_everything(engine)
    assert (everything_of(model), repr(tokenizer), tokenizer.backend_tokenizer.to_str()) == before


def everything_of(model):
    """Hooks, attributes, settings and weights of every module, as something to compare."""
    hooks = [
        (name, *(len(getattr(m, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks")))
        for name, m in model.named_modules()
    ]
    attributes = [(name, sorted(vars(m))) for name, m in model.named_modules()]
    weights = [(n, t.clone().numpy().tobytes()) for n, t in model.state_dict().items()]
    settings_ = model.config.to_json_string(), model.generation_config.to_json_string()
    return hooks, attributes, weights, settings_, model.training


def ask_everything(engine):
    prompts = questions(engine)
    engine.answer_logprobs(prompts, [None, steer()])
    engine.generate(prompts, [None, steer()], max_new_tokens=3)
    list(engine.answer_residuals(prompts, [0, 2]))


@pytest.mark.parametrize("family", FAMILIES)
def test_pitfall_07_positions_count_tokens_not_padding(family):
    """A short prompt in a padded batch has the positions that it has alone."""
    engine = shared_engine(family)
    prompts = questions(engine, "Is it?", "Is it the case that it is so?")
    seen = []

    def see(_module, _inputs, keywords):
        seen.append(keywords["position_ids"])

    handle = engine._anatomy.blocks[-1].register_forward_pre_hook(see, with_kwargs=True)
    try:
        engine.answer_logprobs(prompts, [None, steer(), steer(2)])
    finally:
        handle.remove()
    trunk, branches = seen
    for row, prompt in enumerate(sorted(prompts, key=lambda p: -len(p.ids))):
        num = len(prompt.ids)
        assert trunk[row, :num].tolist() == list(range(num))
        assert branches[row].tolist() == [num - 1] * 3


@pytest.mark.parametrize("side", ["left", "right"])
def test_pitfall_07_and_17_the_tokenizers_padding_is_irrelevant(side):
    """Nor does it matter that the padding token is the one that ends a text."""
    tokenizer = llama_2_kind()
    model = random_model("llama", tokenizer)
    tokenizer.padding_side = side
    tokenizer.pad_token = tokenizer.eos_token
    engine = LocalEngine(model, tokenizer)

    np.testing.assert_array_equal(
        engine.answer_logprobs(questions(engine), [None, steer()]).logprobs,
        shared_engine("llama").answer_logprobs(questions(engine), [None, steer()]).logprobs,
    )


@pytest.mark.parametrize(
    ("family", "batch_tokens"), [*((family, 150) for family in FAMILIES), ("llama", 1)]
)
def test_pitfall_12_the_batch_size_does_not_show(family, batch_tokens):
    large, small = shared_engine(family), engine_of(family, batch_tokens=batch_tokens)
    prompts = questions(large, "Is it?", "Is it the case?", "Why is it so?")
    interventions = [None, *(steer(layer, 1.0, rule) for layer in (0, 2) for rule in RULES)]

    found, wanted = (e.answer_logprobs(prompts, interventions) for e in (small, large))
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=1e-5)
    assert found.receipt == wanted.receipt
    texts = [e.generate(prompts, interventions, max_new_tokens=3) for e in (small, large)]
    assert texts[0].texts == texts[1].texts
    assert texts[0].receipt == texts[1].receipt


def test_pitfall_13_a_compiled_model_is_refused():
    """Compiled code may leave hooks out or keep an old one for good."""
    tokenizer = llama_2_kind()
    model = random_model("llama", tokenizer)
    model.compile(backend="eager")

    with pytest.raises(EngineError, match=r"compiled(.|\n)*torch.compile"):
        LocalEngine(model, tokenizer)


def test_pitfall_14_an_exception_in_the_middle_leaves_nothing():
    engine = engine_of("llama")
    prompts = questions(engine)
    before = everything_of(engine._model)
    unsteered = engine.answer_logprobs(prompts, [None]).logprobs

    def fail(*_):
        message = "broken off"
        raise RuntimeError(message)

    handle = engine._anatomy.blocks[-1].register_forward_hook(fail)
    for ask in (
        lambda: engine.answer_logprobs(prompts, [steer(0)]),
        lambda: engine.generate(prompts, [steer(0)], max_new_tokens=2),
        lambda: list(engine.answer_residuals(prompts, [3])),
    ):
        with pytest.raises(RuntimeError, match="broken off"):
            ask()
    handle.remove()

    assert everything_of(engine._model) == before
    np.testing.assert_array_equal(engine.answer_logprobs(prompts, [None]).logprobs, unsteered)


def test_pitfall_16_suppressed_tokens_make_no_nan():
    engine = engine_of("llama")

    def suppress(_module, _inputs, logits):
        return logits.index_fill(-1, torch.tensor([0, 1]), float("-inf"))

    handle = engine._anatomy.unembedding.register_forward_hook(suppress)
    found = engine.answer_logprobs(questions(engine), [None, steer()]).logprobs
    handle.remove()
    assert np.isfinite(found).all()


def test_numbers_that_break_down_are_an_error():
    engine = engine_of("llama")

    def explode(_module, _inputs, output):
        return output * float("nan")

    handle = engine._anatomy.blocks[2].register_forward_hook(explode)
    with pytest.raises(EngineError, match=r"a log-probability is NaN(.|\n)*bfloat16 or float32"):
        engine.answer_logprobs(questions(engine), [None])
    with pytest.raises(EngineError, match="a residual is NaN or infinite"):
        list(engine.answer_residuals(questions(engine), [2]))
    with pytest.raises(EngineError, match="a logit is NaN or infinite"):
        engine.generate(questions(engine), [None], max_new_tokens=1)
    handle.remove()


def test_a_model_that_runs_a_block_twice_is_caught_by_the_receipt():
    engine = engine_of("llama")
    first = engine._anatomy.blocks[0]

    def run_again(block, inputs, keywords, output):
        if keywords.get("past_key_values") is not None:
            block(*inputs, **{**keywords, "past_key_values": None, "attention_mask": None})
        return output

    handle = first.register_forward_hook(run_again, with_kwargs=True)
    with pytest.raises(EngineError, match=r"the hooks steered Receipt\(num_rows=4"):
        engine.answer_logprobs(questions(engine), [steer(0)])
    handle.remove()


def test_a_large_vocabulary_is_unembedded_in_parts(monkeypatch):
    engine = shared_engine("llama")
    prompts = questions(engine)
    interventions = [None, *(steer(layer) for layer in range(NUM_LAYERS))]
    whole = engine.answer_logprobs(prompts, interventions).logprobs

    monkeypatch.setattr("caa_harness.engines.local._passes._MOST_LOGITS", 1000)
    parts = engine.answer_logprobs(prompts, interventions).logprobs
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_the_text_part_of_a_model_of_images_can_be_asked():
    """Gemma 3 from 4B on is such a model."""
    tokenizer = gemma_kind()
    text = random_model("gemma3", tokenizer)
    config = Gemma3Config(
        text_config=text.config.to_dict(),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_use_head": False,
        },
        mm_tokens_per_image=1,
    )
    whole = Gemma3ForConditionalGeneration._from_config(config).eval()
    whole.model.language_model.load_state_dict(text.model.state_dict())
    whole.lm_head.load_state_dict(text.lm_head.state_dict())
    engine, wanted = LocalEngine(whole, tokenizer), shared_engine("gemma3")

    prompts = questions(wanted)
    np.testing.assert_array_equal(
        engine.answer_logprobs(prompts, [None, steer()]).logprobs,
        wanted.answer_logprobs(prompts, [None, steer()]).logprobs,
    )
    assert engine.card.architecture == "Gemma3ForConditionalGeneration"


# -- other numbers, other devices -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_half_precision_gives_about_the_same(family, dtype):
    exact, rough = shared_engine(family), engine_of(family, dtype=dtype)
    prompts = questions(exact)
    interventions = [None, steer(), steer(multiplier=0.0)]

    wanted, found = (e.answer_logprobs(prompts, interventions) for e in (exact, rough))
    assert rough.card.dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=0.5)
    np.testing.assert_array_equal(found.logprobs[:, 0], found.logprobs[:, 2])
    assert found.receipt == wanted.receipt
    ask_everything(rough)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma3"])
def test_attention_implementations_agree(family):
    one, other = (engine_of(family, attention=kind) for kind in ("sdpa", "eager"))
    prompts = questions(one)

    assert (one.card.attention, other.card.attention) == ("sdpa", "eager")
    np.testing.assert_allclose(
        one.answer_logprobs(prompts, [None, steer()]).logprobs,
        other.answer_logprobs(prompts, [None, steer()]).logprobs,
        atol=1e-5,
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_gives_the_same_answers(family):
    here = shared_engine(family)
    tokenizer = here.writer.tokenizer
    there = LocalEngine(random_model(family, tokenizer).to("cuda"), tokenizer)
    prompts = questions(here)

    np.testing.assert_allclose(
        there.answer_logprobs(prompts, [None, steer()]).logprobs,
        here.answer_logprobs(prompts, [None, steer()]).logprobs,
        atol=1e-3,
    )
    ask_everything(there)


def test_global_settings_stay_as_they_were():
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state().tolist()

    ask_everything(shared_engine("llama"))
    after = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state().tolist()
    assert after == before
    assert torch.is_grad_enabled()


# -- the engine has no state ----------------------------------------------------------------


class AnyOrderOfCalls(RuleBasedStateMachine):
    """Whatever is asked, in whatever order, the model is as it was."""

    @initialize()
    def open(self):
        self.engine = engine_of("llama")
        self.prompts = questions(self.engine)
        self.before = everything_of(self.engine._model)
        self.unsteered = self.engine.answer_logprobs(self.prompts, [None]).logprobs

    @rule(
        layer=st.integers(0, NUM_LAYERS - 1),
        multiplier=st.sampled_from([-2.0, 0.0, 1.0]),
        positions=st.sampled_from(RULES),
    )
    def score(self, layer, multiplier, positions):
        self.engine.answer_logprobs(self.prompts, [steer(layer, multiplier, positions)])

    @rule(num=st.integers(1, 3))
    def generate(self, num):
        self.engine.generate(self.prompts, [None, steer()], max_new_tokens=num)

    @rule(layer=st.integers(0, NUM_LAYERS - 1))
    def read_only_the_first_batch(self, layer):
        next(self.engine.answer_residuals(self.prompts, [layer]))

    @rule()
    def break_off_in_the_middle(self):
        wrong = Intervention(layer=0, direction=np.ones(D_MODEL + 1, np.float32), multiplier=1.0)
        with pytest.raises(EngineError):
            self.engine.answer_logprobs(self.prompts, [steer(), wrong])

    @invariant()
    def the_model_is_as_it_was(self):
        if not hasattr(self, "engine"):
            return
        assert everything_of(self.engine._model) == self.before
        np.testing.assert_array_equal(
            self.engine.answer_logprobs(self.prompts, [None]).logprobs, self.unsteered
        )


TestAnyOrderOfCalls = AnyOrderOfCalls.TestCase
TestAnyOrderOfCalls.settings = settings(max_examples=8, stateful_step_count=6, deadline=None)
