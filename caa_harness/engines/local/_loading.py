"""Opening a model of transformers: from a name or a folder to a model, a tokenizer and digests.

Every way in which this can go wrong for a user ends in an ``EngineError`` that
says what to do.  Nothing here asks the model anything.
"""

from __future__ import annotations

import hashlib
import importlib.util
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from caa_harness.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready to be asked, and what says which one it is."""

    model: Any
    tokenizer: Any
    weights_digest: str


def load(
    name_or_path: str,
    *,
    device: str,
    dtype: str,
    device_map: Any = None,
    attention: str | None = None,
    revision: str | None = None,
) -> Loaded:
    """Load a causal language model and its tokenizer, from safetensors files only."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    where_to = choose_device(device)
    folder = _folder(name_or_path)
    source = name_or_path if folder is None else str(folder)
    common = {
        "revision": revision,
        "trust_remote_code": False,
        "local_files_only": folder is not None,
    }
    if attention is not None and attention not in ("sdpa", "eager"):
        raise EngineError(
            f"unknown attention implementation {attention!r}",
            where=name_or_path,
            remedy="choose 'sdpa' or 'eager', or leave it out",
        )
    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise EngineError(
            "a device map needs the package accelerate",
            where=name_or_path,
            remedy="pip install 'caa-harness[local]', or leave the device map out",
        )
    try:
        config = AutoConfig.from_pretrained(source, **common)
        kind = choose_dtype(dtype, where_to, config)
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        options: dict[str, Any] = {"dtype": kind, "use_safetensors": True, **common}
        if attention is not None:
            options["attn_implementation"] = attention
        if device_map is not None:
            options["device_map"] = device_map
        with _without_progress_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(source, **options)
        if device_map is None:
            model = model.to(where_to)
    except EngineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise EngineError(
                f"out of memory while loading on {where_to}",
                where=name_or_path,
                remedy="choose a smaller dtype (bfloat16), a device map such as 'auto', "
                "or a smaller model",
            ) from error
        raise _explain(error, name_or_path) from error
    files = _weight_files(source, folder, revision)
    return Loaded(
        model=model.eval(),
        tokenizer=tokenizer,
        weights_digest=digest_files(files) if files else digest_tensors(model),
    )


def choose_device(device: str) -> torch.device:
    """Turn a device's name into a device that is there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise EngineError(
            f"unknown device {device!r}",
            where="device",
            remedy="choose 'cpu', 'cuda', 'cuda:0' or 'auto'",
        ) from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise EngineError(
                f"device {device!r} was asked for, and torch {torch.__version__} sees "
                "no CUDA device",
                where="device",
                remedy="run where there is a GPU (nvidia-smi), install a CUDA build of torch, "
                "or choose 'cpu'",
            )
        if chosen.index is not None and chosen.index >= count:
            raise EngineError(
                f"device {device!r} was asked for, and there are {count} CUDA devices",
                where="device",
                remedy=f"choose one of cuda:0 to cuda:{count - 1}",
            )
    elif chosen.type == "mps":
        if not torch.backends.mps.is_available():
            raise EngineError(
                "device 'mps' was asked for, and torch sees none",
                where="device",
                remedy="choose 'cpu'",
            )
    elif chosen.type != "cpu":
        raise EngineError(
            f"device {device!r} cannot be used here",
            where="device",
            remedy="choose 'cpu', 'cuda', 'cuda:0' or 'auto'",
        )
    return chosen


def choose_dtype(dtype: str, device: torch.device, config: Any) -> torch.dtype:
    """Turn a dtype's name into one; ``auto`` is float32 on a CPU, else the checkpoint's own."""
    if dtype == "auto":
        own = str(getattr(config.get_text_config(decoder=True), "dtype", None))
        name = "float32" if device.type == "cpu" else own.removeprefix("torch.")
        return DTYPES.get(name, torch.float32)
    if dtype not in DTYPES:
        raise EngineError(
            f"unknown dtype {dtype!r}",
            where="dtype",
            remedy=f"choose one of auto, {', '.join(DTYPES)}",
        )
    return DTYPES[dtype]


def check_finite(model: Any, name: str) -> None:
    """Refuse weights that are not numbers."""
    for key, tensor in model.named_parameters():
        if tensor.device.type != "meta" and not bool(torch.isfinite(tensor).all()):
            num = int((~torch.isfinite(tensor)).sum())
            raise EngineError(
                f"{num} of {tensor.numel()} weights of {key} are NaN or infinite",
                where=name,
                remedy="load an undamaged checkpoint, or choose a dtype with more range (bfloat16)",
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def free_memory(error: BaseException) -> None:
    """Let go of what a failed pass still holds."""
    traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 over the names and the SHA-256 of each file, in the order of the names."""
    ordered = sorted(files, key=lambda file: file.name)
    with ThreadPoolExecutor(max_workers=8) as pool:
        digests = list(pool.map(_digest_file, ordered))
    lines = [f"{file.name} {digest}\n" for file, digest in zip(ordered, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_tensors(model: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of every tensor of the state."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if tensor.device.type != "meta":
            flat = tensor.detach().cpu().contiguous().flatten()
            total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def digest_tokenizer(tokenizer: Any) -> str:
    """SHA-256 over the tokenizer's whole description and its chat template."""
    backend = tokenizer.backend_tokenizer.to_str()
    template = getattr(tokenizer, "chat_template", None) or ""
    return hashlib.sha256(f"{backend}\n{template}".encode()).hexdigest()


def package_versions() -> tuple[tuple[str, str], ...]:
    """Versions that can move a number."""
    return tuple((name, version(name)) for name in _PACKAGES)


def _folder(name_or_path: str) -> Path | None:
    """Return the folder that is meant, None when a name on the hub is."""
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EngineError(
                "the folder holds no config.json",
                where=name_or_path,
                remedy="name a folder that save_pretrained wrote (config.json, model.safetensors, "
                "tokenizer.json)",
            )
        return path
    looks_like_path = name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1
    if looks_like_path or path.exists():
        raise EngineError(
            "there is no such folder" if not path.exists() else "this is a file, not a folder",
            where=name_or_path,
            remedy="name the folder of a model, or a model's name on the hub (owner/name)",
        )
    return None


def _weight_files(source: str, folder: Path | None, revision: str | None) -> list[Path]:
    if folder is None:
        from transformers.utils.hub import cached_file  # noqa: PLC0415

        found = cached_file(source, "config.json", revision=revision)
        folder = None if found is None else Path(found).parent
    return [] if folder is None else sorted(folder.glob("*.safetensors"))


def _digest_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _without_progress_bars:  # noqa: N801 - reads as what it does
    """Loads in silence, and leaves transformers' setting as it was."""

    def __enter__(self) -> None:
        logging = _logging()

        self._was_on = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        logging = _logging()

        if self._was_on:
            logging.enable_progress_bar()


def _logging() -> Any:
    from transformers.utils import logging  # noqa: PLC0415

    return logging


def _explain(error: Exception, name: str) -> EngineError:
    """Say what a loading error means for the person who named the model."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds = {type(link).__name__ for link in chain}
    text = " ".join(str(link) for link in chain)
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "GatedRepoError" in kinds:
        return EngineError(
            "the model is gated",
            where=name,
            remedy="accept its licence on its page on the hub, then log in with `hf auth login`",
        )
    if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
        return EngineError(
            f"the hub has no such model or revision: {first}",
            where=name,
            remedy="check the name (owner/name) and the revision, name a folder, or log in "
            "with `hf auth login` when the model is private",
        )
    if kinds & {
        "ConnectError",
        "ConnectionError",
        "ConnectTimeout",
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ProxyError",
    }:
        return EngineError(
            "the model is neither a folder nor in the cache, and the hub cannot be reached",
            where=name,
            remedy="download it where there is a network (`hf download NAME`), or name its folder",
        )
    if "safetensors" in text.lower():
        return EngineError(
            f"no usable safetensors weights: {first}",
            where=name,
            remedy="name a model that ships model.safetensors; other formats can run code "
            "and are not read",
        )
    return EngineError(
        f"cannot be loaded: {type(error).__name__}: {first}",
        where=name,
        remedy="check that config.json, *.safetensors and tokenizer.json are there and undamaged",
    )
