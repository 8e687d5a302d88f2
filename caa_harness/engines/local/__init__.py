"""The local engine: a transformers model on this machine, asked through the door.

Prompts and interventions come in, numbers go out.  A prompt is computed once up
to the first steered token; every distinct intervention is a branch of it over
the shared cache.  Interventions are hooks that last for one forward pass and
return new tensors.  Specs and behaviours are unknown here.

Shape suffixes: B prompt of a batch, R row (prompt x intervention), S token of
this call, T token of the prefix, V vocabulary, D d_model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from caa_harness.engines import (
    AnswerLogprobs,
    Generations,
    ModelCard,
    Receipt,
    ResidualBatch,
)
from caa_harness.errors import EngineError
from caa_harness.prompts import TokenizerWriter

try:
    import torch
    import transformers  # noqa: F401 - the modules below need it
except ImportError as error:
    raise EngineError(
        f"a model is asked for, and {error.name or error} is not installed",
        where="local engine",
        remedy="pip install 'caa-harness[local]'",
    ) from error

from caa_harness.engines._plan import Plan, added_vector, not_finite
from caa_harness.engines.local._blocks import Ledger, find_anatomy
from caa_harness.engines.local._loading import (
    check_finite,
    digest_tensors,
    digest_tokenizer,
    load,
    package_versions,
)
from caa_harness.engines.local._passes import Passes
from caa_harness.engines.local._queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from caa_harness.engines import Intervention
    from caa_harness.prompts import Prompt

_CPU_BATCH_TOKENS = 4096
_GPU_BATCH_TOKENS = (2048, 65536)
"""Least and most; between them half of the free memory decides."""


def open_local(
    name_or_path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    device_map: Any = None,
    batch_tokens: int | None = None,
    template: str | None = None,
    attention: str | None = None,
    revision: str | None = None,
    name: str | None = None,
) -> LocalEngine:
    """Open a model of the hub or of a folder.

    Parameters
    ----------
    name_or_path : str
        ``owner/name`` on the hub, or a folder that ``save_pretrained`` wrote.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` is a GPU when there is one.
    dtype : str
        ``float32``, ``bfloat16``, ``float16``; ``auto`` is float32 on a CPU and the
        checkpoint's own elsewhere.
    device_map : str or dict, optional
        Spreads the model over several devices through accelerate, ``device`` aside.
    batch_tokens : int, optional
        Most tokens in one forward pass; sized from the free memory when left out.
    template : str, optional
        One of ``caa_harness.prompts.TEMPLATES``; chosen from the tokenizer when left out.
    attention : str, optional
        ``sdpa`` or ``eager``; the architecture's default when left out.
    revision : str, optional
        Branch, tag or commit on the hub.
    name : str, optional
        What cards and messages call the model; ``name_or_path`` when left out.

    Raises
    ------
    EngineError
        When the model cannot be opened; the message says what to do.
    PromptError
        When the template does not fit the tokenizer.
    """
    loaded = load(
        name_or_path,
        device=device,
        dtype=dtype,
        device_map=device_map,
        attention=attention,
        revision=revision,
    )
    return LocalEngine(
        loaded.model,
        loaded.tokenizer,
        name=name or name_or_path,
        template=template,
        batch_tokens=batch_tokens,
        weights_digest=loaded.weights_digest,
    )


class LocalEngine:
    """A transformers causal language model as an engine; satisfies ``Engine``.

    The model is only read: no attribute, hook, buffer or weight of it is different after a
    call, also when the call raised.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "model in memory",
        template: str | None = None,
        batch_tokens: int | None = None,
        weights_digest: str | None = None,
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise EngineError(
                f"a batch of {batch_tokens} tokens", where=name, remedy="give at least 1"
            )
        if model.training:
            raise EngineError(
                "the model is in training mode, where dropout makes every answer another",
                where=name,
                remedy="call model.eval() first",
            )
        compiled = any(getattr(module, "_compiled_call_impl", None) for module in model.modules())
        if compiled or hasattr(model, "_orig_mod"):
            raise EngineError(
                "the model is compiled, and compiled code may leave hooks out",
                where=name,
                remedy="give the model as it was before torch.compile",
            )
        self._anatomy = find_anatomy(model, name)
        check_finite(model, name)
        self._model = model
        self._name = name
        self._writer = TokenizerWriter(tokenizer, name=name, template=template)
        self._dtype: torch.dtype = model.dtype
        self._batch_tokens = batch_tokens
        self._passes = Passes(
            self._anatomy, dtype=model.dtype, ends=_end_tokens(model, tokenizer), name=name
        )
        self._card = ModelCard(
            name=name,
            architecture=type(model).__name__,
            num_layers=len(self._anatomy.blocks),
            d_model=self._anatomy.d_model,
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(self._anatomy.device),
            template=self._writer.template,
            weights_digest=weights_digest or digest_tensors(model),
            tokenizer_digest=digest_tokenizer(tokenizer),
            attention=self._anatomy.attention,
            packages=package_versions(),
        )

    @property
    def card(self) -> ModelCard:
        """Which model this is."""
        return self._card

    @property
    def writer(self) -> TokenizerWriter:
        """Writes questions as this model's prompts."""
        return self._writer

    # -- the three questions ----------------------------------------------------------------

    def answer_residuals(
        self,
        prompts: Sequence[Prompt],
        layers: Sequence[int],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[ResidualBatch]:
        """Residual stream after each of ``layers`` at each answer letter of each prompt.

        Each letter is a branch of its prompt; blocks above the highest wanted layer do not run.
        """
        self._check_layers(layers)
        num_letters = self._check_prompts(prompts, num_new=1)
        if not prompts or not layers:
            return
        assert num_letters > 0, "residuals are read at answer letters"
        queue = Queue(
            [((), len(prompt.ids), num_letters) for prompt in prompts],
            tokens=self._tokens(),
            name=self._name,
        )
        for rows in queue:
            try:
                residuals = self._passes.read([prompts[row] for row in rows], layers)
            except Exception as error:  # noqa: BLE001 - the queue raises what it cannot halve
                queue.put_back(rows, error)
                continue
            if not np.isfinite(residuals).all():
                raise not_finite("a residual", self._name)
            if progress is not None:
                progress(len(rows))
            yield ResidualBatch(rows=np.array(rows, dtype=np.int64), residuals=residuals)

    def answer_logprobs(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> AnswerLogprobs:
        """Score the answer letters of every prompt under every intervention.

        Equal interventions are computed once, so multiplier 0 and None give equal bytes.
        """
        self._check_interventions(interventions)
        num_letters = self._check_prompts(prompts)
        plan = Plan(interventions)
        logprobs = np.zeros((len(prompts), len(plan.distinct), num_letters), dtype=np.float32)
        ledger = Ledger()
        queue = Queue(
            [
                (plan.shape(p), plan.cut(p), len(plan.distinct) * (len(p.ids) - plan.cut(p)))
                for p in prompts
            ],
            tokens=self._tokens(),
            name=self._name,
        )
        if interventions and num_letters:
            for rows in queue:
                part = Ledger()
                try:
                    batch = [prompts[row] for row in rows]
                    logprobs[rows] = self._passes.score(batch, plan, queue.branch_tokens, part)
                except Exception as error:  # noqa: BLE001 - the queue raises what it cannot halve
                    queue.put_back(rows, error)
                    continue
                ledger.include(part)
                if progress is not None:
                    progress(len(rows))
        if not np.isfinite(logprobs).all():
            raise not_finite("a log-probability", self._name)
        receipt = ledger.receipt()
        self._check_receipt(receipt, plan.receipt(prompts if num_letters else ()))
        return AnswerLogprobs(
            logprobs=logprobs[:, plan.index], receipt=receipt, notes=tuple(queue.notes)
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention | None],
        *,
        max_new_tokens: int,
        progress: Callable[[int], None] | None = None,
    ) -> Generations:
        """Continue every prompt greedily under every intervention.

        All interventions of a batch of prompts decode together; rows that ended leave the batch.
        """
        assert max_new_tokens > 0
        self._check_interventions(interventions)
        self._check_prompts(prompts, num_new=max_new_tokens, same_letters=False)
        plan = Plan(interventions)
        num_branches = len(plan.distinct)
        continued: dict[int, list[list[int]]] = {}
        ledger = Ledger()
        queue = Queue(
            [
                (plan.shape(p), plan.cut(p), num_branches * (len(p.ids) + max_new_tokens))
                for p in prompts
            ],
            tokens=self._tokens(),
            name=self._name,
            most_branch_tokens=None,
        )
        if interventions:
            for rows in queue:
                part = Ledger()
                try:
                    batch = [prompts[row] for row in rows]
                    tokens = self._passes.extend(
                        batch, plan, max_new_tokens, queue.branch_tokens, part
                    )
                except Exception as error:  # noqa: BLE001 - the queue raises what it cannot halve
                    queue.put_back(rows, error)
                    continue
                ledger.include(part)
                continued.update(zip(rows, tokens, strict=True))
                if progress is not None:
                    progress(len(rows))
        # The last token of a row is never fed back, so it is never steered.
        num_fed = [[len(row) - 1 for row in continued.get(i, ())] for i in range(len(prompts))]
        receipt = ledger.receipt()
        self._check_receipt(receipt, plan.receipt(prompts if interventions else (), num_fed))
        texts = tuple(
            tuple(self._text(continued[i][j]) for j in plan.index) if interventions else ()
            for i in range(len(prompts))
        )
        return Generations(texts=texts, receipt=receipt, notes=tuple(queue.notes))

    # -- checks -----------------------------------------------------------------------------

    def _check_layers(self, layers: Sequence[int]) -> None:
        for layer in layers:
            if not 0 <= layer < self._card.num_layers:
                raise EngineError(
                    f"layer {layer} is outside the model, which has {self._card.num_layers} layers",
                    where=self._name,
                    remedy=f"choose a layer from 0 to {self._card.num_layers - 1}",
                )

    def _check_interventions(self, interventions: Sequence[Intervention | None]) -> None:
        for intervention in interventions:
            if intervention is None:
                continue
            self._check_layers([intervention.layer])
            if intervention.direction.shape != (self._card.d_model,):
                raise EngineError(
                    f"a direction of shape {intervention.direction.shape}, and the model's "
                    f"residual stream has d_model {self._card.d_model}",
                    where=self._name,
                    remedy="use a vector that was computed from this model",
                )
            if not np.isfinite(added_vector(intervention)).all():
                raise EngineError(
                    "a direction or multiplier that is NaN or infinite",
                    where=self._name,
                    remedy="compute the vector again, or choose a smaller multiplier",
                )

    def _check_prompts(
        self, prompts: Sequence[Prompt], *, num_new: int = 0, same_letters: bool = True
    ) -> int:
        """Check that the model can read the prompts; return their number of letters."""
        limit = self._anatomy.max_length
        for prompt in prompts:
            if limit is not None and len(prompt.ids) + num_new > limit:
                raise EngineError(
                    f"a prompt of {len(prompt.ids)} tokens"
                    + (f" and {num_new} to come" if num_new else "")
                    + f", and the model's context holds {limit}",
                    where=f"{self._name}: {prompt.text[:60]!r}",
                    remedy="shorten the question, or generate fewer tokens",
                )
            if max((*prompt.ids, *prompt.letter_ids)) >= self._anatomy.vocab_size:
                raise EngineError(
                    "a prompt holds token ids that the model does not have",
                    where=f"{self._name}: {prompt.text[:60]!r}",
                    remedy="write prompts with this engine's own writer",
                )
        numbers = {len(prompt.letter_ids) for prompt in prompts}
        assert not same_letters or len(numbers) <= 1, "prompts of a call offer equal letters"
        return max(numbers, default=0)

    def _check_receipt(self, found: Receipt, wanted: Receipt) -> None:
        if found != wanted:
            raise EngineError(
                f"the hooks steered {found}, and {wanted} was asked for",
                where=self._name,
                remedy="report this: the model's blocks do not run once for each token",
            )

    def _tokens(self) -> int:
        """Most tokens of one batch."""
        if self._batch_tokens is not None:
            return self._batch_tokens
        device = self._anatomy.device
        if device.type != "cuda":
            return _CPU_BATCH_TOKENS
        free, _ = torch.cuda.mem_get_info(device)
        config = self._model.config.get_text_config(decoder=True)
        # Keys and values of every block at worst, and about 24 activations alive at once.
        values = 2 * self._card.num_layers * config.hidden_size + 24 * config.hidden_size
        per_token = values * self._dtype.itemsize
        return int(min(max(free // 2 // per_token, _GPU_BATCH_TOKENS[0]), _GPU_BATCH_TOKENS[1]))

    def _text(self, tokens: list[int]) -> str:
        return str(self._writer.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens after which a continuation has ended."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    own = [own] if isinstance(own, int) else list(own or ())
    return frozenset([*own, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])])
