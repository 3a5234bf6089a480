"""Evaluation: accuracy, gap and target mean by hand on a model whose answers are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from datasets import Dataset
from torch import nn

from xlt_tutorial.batching import Row, encode_rows
from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError
from xlt_tutorial.evaluation import Scores, evaluate, predict
from xlt_tutorial.tasks import Languages, ParallelTask

N = 4  # classes


class Oracle(nn.Module):
    """Answers with the second token's id modulo four, and notes how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.widths: list[int] = []
        self.sizes: list[int] = []
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.widths.append(input_ids.shape[1])
        self.sizes.append(len(input_ids))
        self.modes.add((self.training, torch.is_grad_enabled()))
        assert attention_mask.sum(1).min() > 1
        return nn.functional.one_hot(input_ids[:, 1] % N, N) + self.anchor


ROWS = [Row(f"r{i}", ("",), (0, 5 + i * 7 % 11, *range(4, 4 + i * 5 % 9), 2), i % N) for i in range(30)]
ANSWERS = [(5 + i * 7 % 11) % N for i in range(30)]


@pytest.mark.parametrize("batch_size", [1, 7, 30, 64])
def test_predictions_come_in_the_rows_order_whatever_the_batches(batch_size):
    model = Oracle()
    assert predict(model, ROWS, pad_id=1, batch_size=batch_size).tolist() == ANSWERS
    assert sum(model.sizes) == 30
    assert max(model.sizes) == min(batch_size, 30)
    assert model.widths == sorted(model.widths)  # short rows together: little padding


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training):
    model = Oracle().train(training)
    predict(model, ROWS, pad_id=1)
    assert model.training is training
    assert model.modes == {(False, False)}  # it answered in evaluation mode, without gradients


def test_the_models_mode_is_restored_after_an_error():
    model = Oracle().train()
    with pytest.raises(TypeError):
        predict(model, [Row("r", ("",), (0, 5, 2), 0, (0, 0, 0))], pad_id=1)  # it takes no token types
    assert model.training


@pytest.mark.parametrize("kind", ["bert", "xlmr"])
def test_a_real_classifiers_answers_do_not_depend_on_batch_or_order(kind):
    torch.manual_seed(0)
    encoder = tiny_encoder(kind)
    model = Classifier(encoder.model, N).train()
    with torch.no_grad():
        model.head.weight *= 100  # far from ties
    texts = ["the cat", "big red bird sings here", "moon", "the small dog sees the fish .", "tree", "not a house"] * 2
    texts = [f"{text} {'abcdefgh'[i % 8] * (i % 5)}".strip() for i, text in enumerate(texts)]
    data = Dataset.from_dict({"id": list(map(str, range(12))), "label": [0] * 12, "text": texts})
    rows = encode_rows(encoder.tokenizer, data, ("text",))
    alone = []
    model.eval()
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.input_ids]), torch.ones(1, len(row.input_ids), dtype=torch.long))[0]
        alone.append(max(range(N), key=lambda k, logits=logits: logits[k].item()))
    assert len(set(alone)) > 1
    for size in (5, 12):
        assert predict(model, rows, 1, size).tolist() == alone
    assert predict(model, rows[::-1], 1, 5).tolist() == alone[::-1]


# --- scores --------------------------------------------------------------------------------------------------------

WORDS = ["cat", "dog", "bird", "fish", "tree", "house", "moon", "sun"]


def fake_task(wrong: dict[str, int], split: str = "test") -> tuple[ParallelTask, object]:
    """A task whose first ``wrong[language]`` of eight items carry a label that the oracle will not give."""
    tokenizer = tiny_encoder("bert").tokenizer
    sets = {}
    for language, count in wrong.items():
        right = [tokenizer(word)["input_ids"][1] % N for word in WORDS]
        labels = [(label + 1) % N if i < count else label for i, label in enumerate(right)]
        sets[language] = Dataset.from_dict({"id": list(map(str, range(8))), "label": labels, "text": WORDS})
    names = tuple("abcd")
    return ParallelTask("fake", "en", tuple(wrong), names, ("text",), {split: Languages(sets)}), tokenizer


def test_accuracy_gap_and_target_mean_by_hand():
    task, tokenizer = fake_task({"en": 1, "de": 4, "ru": 2, "ja": 8})
    scores = evaluate(Oracle(), tokenizer, task)
    assert scores.accuracy == {"en": 7 / 8, "de": 4 / 8, "ru": 6 / 8, "ja": 0}
    assert scores.n == {"en": 8, "de": 8, "ru": 8, "ja": 8}
    assert scores.targets == ("de", "ru", "ja")
    assert scores.gap == {"de": 3 / 8, "ru": 1 / 8, "ja": 7 / 8}
    assert scores.target_mean == pytest.approx((4 + 6 + 0) / 8 / 3)
    assert (scores.source, scores.split) == ("en", "test")
    for language, count in {"en": 1, "de": 4, "ru": 2, "ja": 8}.items():
        assert scores.correct[language].tolist() == [i >= count for i in range(8)]


def test_languages_of_different_size_count_the_same():
    scores = Scores("en", "test", {"en": np.array([True]), "de": np.array([True, False]), "ru": np.array([True] * 8)})
    assert scores.target_mean == 0.75
    assert scores.n == {"en": 1, "de": 2, "ru": 8}


def test_a_result_file_gets_plain_numbers():
    task, tokenizer = fake_task({"en": 0, "de": 2, "ru": 4})
    plain = evaluate(Oracle(), tokenizer, task).as_dict()
    assert plain == {
        "split": "test",
        "accuracy": {"en": 1.0, "de": 0.75, "ru": 0.5},
        "n": {"en": 8, "de": 8, "ru": 8},
        "target_mean": 0.625,
        "gap": {"de": 0.25, "ru": 0.5},
        "mean_gap": 0.375,
    }
    assert all(type(value) is float for value in (*plain["accuracy"].values(), plain["target_mean"], plain["mean_gap"]))


def test_a_subset_of_languages_has_the_source_first():
    task, tokenizer = fake_task({"en": 1, "de": 4, "ru": 2})
    scores = evaluate(Oracle(), tokenizer, task, languages=["ru", "en"])
    assert list(scores.accuracy) == ["en", "ru"]
    assert scores.gap == {"ru": 1 / 8}
    with pytest.raises(XltError, match=r'"fr".*en, de, ru'):
        evaluate(Oracle(), tokenizer, task, languages=["en", "fr"])


def test_the_split_is_test_where_every_language_has_one_else_dev():
    task, tokenizer = fake_task({"en": 1, "de": 4}, split="dev")
    assert evaluate(Oracle(), tokenizer, task).split == "dev"
    task, tokenizer = fake_task({"en": 1, "de": 4})
    assert evaluate(Oracle(), tokenizer, task, split="test").split == "test"
    with pytest.raises(XltError, match='Unknown split "tset"'):
        evaluate(Oracle(), tokenizer, task, split="tset")


def test_long_texts_are_cut_to_the_limit():
    task, tokenizer = fake_task({"en": 0, "de": 0})
    task["test"]["de"] = task["test"]["de"].map(lambda item: {"text": item["text"] + " the end of it"})
    model = Oracle()
    with pytest.warns(UserWarning, match="8 of 8 sequences are longer than 6 tokens"):
        scores = evaluate(model, tokenizer, task, max_length=6)
    assert max(model.widths) == 6
    assert scores.accuracy == {"en": 1, "de": 1}


def test_the_emoji_task_is_scored_item_by_item(emoji_task, trimmed_encoder):
    """An untrained head on the first items, beside one item at a time."""
    task = emoji_task.only(["ja", "ar"])
    few = {lang: data.select(range(8)) for lang, data in task["test"].items()}
    task = replace(task, splits={"test": Languages(few)})
    torch.manual_seed(0)
    model = Classifier(trimmed_encoder.model, len(task.labels)).eval()

    def alone(text: str) -> torch.Tensor:
        batch = trimmed_encoder.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            return model(batch["input_ids"], batch["attention_mask"])[0]

    with torch.no_grad():  # a bias under which no class wins every time
        model.head.bias -= torch.stack([alone(text) for text in few["ja"]["text"]]).mean(0)
    scores = evaluate(model, trimmed_encoder.tokenizer, task)
    assert scores.n == {"en": 8, "ja": 8, "ar": 8}
    answers = [int(alone(text).argmax()) for text in few["ja"]["text"]]
    assert len(set(answers)) > 2
    right = [answer == label for answer, label in zip(answers, few["ja"]["label"], strict=True)]
    assert scores.correct["ja"].tolist() == right
    assert math.isclose(scores.target_mean, (scores.accuracy["ja"] + scores.accuracy["ar"]) / 2)
