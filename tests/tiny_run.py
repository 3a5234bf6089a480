"""A training run small enough for a test: random BERT, whole words, 48 rows. Also run as a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from xlt_tutorial.encoders import Encoder
from xlt_tutorial.objectives import EAR, Objective
from xlt_tutorial.perturb import SynonymSwap
from xlt_tutorial.tasks import load_task
from xlt_tutorial.training import Recipe, Run, train

WORDS = [f"{a}{b}" for a in ("ba", "de", "ki", "lo", "mu", "na") for b in ("ra", "so", "ti", "ve", "zu", "ni")]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tiny_encoder(dropout: float = 0.1) -> Encoder:
    vocabulary = {word: i for i, word in enumerate(SPECIALS + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=16, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    torch.manual_seed(0)
    return Encoder(BertModel(config, add_pooling_layer=False).eval(), fast, "tiny", "folder", "tiny")


def tiny_folder(folder: Path) -> Path:
    """Write a task whose label is told by the first word; the target language is English in capitals of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, language, count in (("train", "en", 48), ("dev", "en", 12), ("test", "en", 12), ("test", "xx", 12)):
        lines = ["id\ttext\tlabel"]
        for i in range(count):
            first = WORDS[(i * 7) % 12]
            rest = " ".join(WORDS[(i * j + 3) % len(WORDS)] for j in range(1, 2 + i % 5))
            lines.append(f"{split}{i}\t{first} {rest}\t{'first' if first.startswith('ba') else 'second'}")
        (folder / f"{split}.{language}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def tiny_maker(folder: Path) -> SynonymSwap:
    table = "".join(f"{word}\t{other}\n" for word, other in zip(WORDS, WORDS[6:] + WORDS[:6], strict=True))
    path = folder.parent / "synonyms.tsv"
    if not path.exists():  # another process of the same run may be reading it
        path.write_text(table, encoding="utf-8")
    return SynonymSwap.from_file(path, rate=0.5)


def tiny_train(folder: Path, objective: Objective | None = None, **options) -> Run:
    """Train EAR (bounded, layer 1) on the tiny task; ``options`` go to ``train``."""
    task_folder = tiny_folder(folder / "task")
    options = {"recipe": Recipe(epochs=3, batch_size=8, checkpoint_every=2, share_every=4), "progress": False} | options
    return train(
        load_task(task_folder), tiny_encoder(), objective or EAR(layer=1, copies=2), tiny_maker(task_folder), **options
    )


class Slow(EAR):
    """EAR that gives a killer time to strike between two steps."""

    def __call__(self, model, batch):
        time.sleep(0.15)
        return super().__call__(model, batch)


if __name__ == "__main__":
    torch.set_num_threads(1)
    home = Path(sys.argv[1])
    finished = tiny_train(home, Slow(layer=1, copies=2), out=home / "run", resume=True, recipe=Recipe(
        epochs=3, batch_size=8, checkpoint_every=2, share_every=4, select="source"))  # fmt: skip
    torch.save({"weights": finished.model.state_dict(), "history": finished.history}, home / "finished.pt")
