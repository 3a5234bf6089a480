"""The alignment kit on clouds whose gap is known; every measure is computed a second time by plain loops."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from xlt_tutorial.alignment import (
    MEASURES,
    align,
    gap_ratio,
    knn_mixing,
    language_probe,
    pooled_layers,
    retrieval,
    sentence_vectors,
    silhouettes,
)
from xlt_tutorial.tasks import Languages, ParallelTask


def cloud(items: int = 40, hidden: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, hidden))


def rotation(hidden: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(cloud(hidden, hidden, seed))[0]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(x) ** 2 for x in b))


# Gap ratio


def test_gap_ratio_by_plain_loops() -> None:
    a, b = cloud(seed=1), 2 * cloud(seed=2) + 0.5
    means, variances = [], []
    for points in (a, b):
        mean = [sum(row[d] for row in points) / len(points) for d in range(6)]
        means.append(mean)
        variances.append(sum(sum((row[d] - mean[d]) ** 2 for d in range(6)) for row in points) / len(points))
    distance = math.sqrt(sum((x - y) ** 2 for x, y in zip(*means, strict=True)))
    assert gap_ratio(a, b) == pytest.approx(distance / math.sqrt(sum(variances) / 2), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0, 30.0])
def test_gap_ratio_grows_with_the_shift(shift: float) -> None:
    a, direction = cloud(), np.full(6, 1.0)
    unit = gap_ratio(a, a + direction)
    assert gap_ratio(a, a + shift * direction) == pytest.approx(shift * unit, abs=1e-12)


def test_gap_ratio_ignores_what_both_languages_share_and_the_order_of_rows() -> None:
    a, b = cloud(seed=1), cloud(seed=2) + 0.7
    expected = gap_ratio(a, b)
    q = rotation(6)
    assert gap_ratio(a + 5, b + 5) == pytest.approx(expected)
    assert gap_ratio(a @ q, b @ q) == pytest.approx(expected)
    assert gap_ratio(100 * a, 100 * b) == pytest.approx(expected)
    assert gap_ratio(a, b[::-1]) == pytest.approx(expected)


# kNN mixing


def test_knn_mixing_by_plain_loops() -> None:
    vectors = {"en": cloud(12, seed=1), "de": cloud(12, seed=2) + 0.3, "ja": cloud(12, seed=3) + 1}
    points = [(language, row) for language, rows in vectors.items() for row in rows]
    k, found = 4, knn_mixing(vectors, k=4)
    for language in vectors:
        shares = []
        for i, (own, query) in enumerate(points):
            if own == language:
                others = [(cosine(query, row), name) for j, (name, row) in enumerate(points) if j != i]
                nearest = sorted(others, reverse=True)[:k]
                shares.append(sum(name != language for _, name in nearest) / k)
        assert found[language] == pytest.approx(sum(shares) / len(shares) / (24 / 35), rel=1e-6)


def test_knn_mixing_is_one_when_languages_do_not_matter_and_zero_when_apart() -> None:
    mixed = {str(i): cloud(300, 8, seed=i) for i in range(4)}
    assert np.mean(list(knn_mixing(mixed).values())) == pytest.approx(1, abs=0.03)
    apart = {str(i): cloud(50, 8, seed=i) + 30 * np.eye(8)[i] for i in range(4)}
    assert set(knn_mixing(apart).values()) == {0.0}


def test_knn_mixing_has_its_maximum_where_all_neighbours_are_translations() -> None:
    concepts = 10 * cloud(15, 30)
    vectors = {str(i): concepts + 0.01 * cloud(15, 30, seed=i) for i in range(12)}
    maximum = (12 * 15 - 1) / (11 * 15)
    assert list(knn_mixing(vectors, k=10).values()) == pytest.approx([maximum] * 12)


def test_knn_mixing_is_the_same_in_chunks() -> None:
    vectors = {"en": cloud(700, 4, seed=1), "de": cloud(700, 4, seed=2) + 0.5}
    rows = np.concatenate(list(vectors.values()))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = rows @ rows.T - 3 * np.eye(1400)
    foreign = (np.argsort(-similarity, axis=1)[:, :10] // 700) != (np.arange(1400) // 700)[:, None]
    found = knn_mixing(vectors)
    assert found["en"] == pytest.approx(foreign[:700].mean() / (700 / 1399), rel=1e-3)
    assert found["de"] == pytest.approx(foreign[700:].mean() / (700 / 1399), rel=1e-3)


# Retrieval


@pytest.mark.parametrize("centred", [False, True])
def test_retrieval_by_plain_loops(centred: bool) -> None:
    a, b = cloud(30, 4, seed=1), cloud(30, 4, seed=1) + 0.8 * cloud(30, 4, seed=2) + 0.5
    found = retrieval(a, b, centred=centred)
    if centred:
        a, b = a - a.mean(0), b - b.mean(0)
    for key, queries, keys in (("from_source", a, b), ("to_source", b, a)):
        hits = 0
        for i, query in enumerate(queries):
            scores = [cosine(query, row) for row in keys]
            hits += scores.index(max(scores)) == i
        assert found[key] == pytest.approx(hits / 30)
    assert 0 < found["from_source"] < 1


def test_centred_retrieval_is_immune_to_a_shift_and_the_raw_form_is_not() -> None:
    a = cloud(60, 6)
    b = a + 20 * np.eye(6)[0]  # so far that every target vector points the same way
    raw, centred = retrieval(a, b), retrieval(a, b, centred=True)
    assert centred == {"from_source": 1.0, "to_source": 1.0}
    assert max(raw.values()) < 0.5


def test_rotating_a_target_breaks_retrieval_but_not_the_gap_ratio() -> None:
    a = cloud(60, 6)
    a -= a.mean(0)
    shift = np.full(6, 0.2)
    turned = a @ rotation(6)
    assert gap_ratio(a, turned + shift) == pytest.approx(gap_ratio(a, a + shift))
    assert retrieval(a, a + shift, centred=True)["from_source"] == 1.0
    assert retrieval(a, turned + shift, centred=True)["from_source"] < 0.3


# Silhouettes


def silhouette_by_loops(points: list[np.ndarray], groups: list[Any]) -> float:
    values = []
    for i, point in enumerate(points):
        mean = {}
        for group in set(groups):
            others = [row for j, row in enumerate(points) if j != i and groups[j] == group]
            if others:
                mean[group] = sum(1 - cosine(point, row) for row in others) / len(others)
        if groups[i] not in mean:
            values.append(0.0)
            continue
        own, other = mean[groups[i]], min(value for group, value in mean.items() if group != groups[i])
        values.append((other - own) / max(own, other))
    return sum(values) / len(values)


def test_silhouettes_by_plain_loops_and_by_scikit_learn() -> None:
    from sklearn.metrics import silhouette_score

    vectors = {"en": cloud(20, seed=1), "de": cloud(20, seed=2) + 0.5, "ja": cloud(20, seed=3) - 0.5}
    labels = ["food"] * 7 + ["animals"] * 9 + ["flags"] * 4
    found = silhouettes(vectors, labels)
    points = np.concatenate(list(vectors.values()))
    languages = [language for language in vectors for _ in range(20)]
    assert found["language"] == pytest.approx(silhouette_by_loops(list(points), languages), abs=1e-9)
    assert found["label"] == pytest.approx(silhouette_by_loops(list(points), labels * 3), abs=1e-9)
    assert found["language"] == pytest.approx(silhouette_score(points, languages, metric="cosine"), abs=1e-9)


def test_silhouettes_count_an_item_alone_in_its_group_as_zero() -> None:
    points = [*cloud(5), *(cloud(4, seed=3) + 2)]
    groups = [0, 0, 0, 0, 1, 2, 2, 2, 2]
    from xlt_tutorial.alignment import _silhouette

    unit = np.array([point / np.linalg.norm(point) for point in points])
    assert _silhouette(unit, np.array(groups)) == pytest.approx(silhouette_by_loops(points, groups), abs=1e-9)


def test_silhouettes_ignore_the_names_of_labels_and_see_a_shift() -> None:
    vectors = {"en": cloud(20, seed=1), "de": cloud(20, seed=1) + 0.1}
    labels = [i % 3 for i in range(20)]
    found = silhouettes(vectors, labels)
    assert silhouettes(vectors, [("c", "a", "b")[label] for label in labels])["label"] == pytest.approx(found["label"])
    apart = silhouettes({"en": vectors["en"], "de": vectors["de"] + 9}, labels)
    assert apart["language"] > 0.3 > 0 > found["language"]


# Language-ID probe


def test_language_probe_is_at_chance_without_a_gap_and_perfect_with_one() -> None:
    vectors = {language: cloud(60) for language in ("en", "de", "ja")}
    assert language_probe(vectors) == pytest.approx(1 / 3, abs=1e-9)
    apart = {language: cloud(60) + shift for language, shift in (("en", 0), ("de", 20), ("ja", 40))}
    assert language_probe(apart) == 1.0


def test_language_probe_groups_its_folds_by_concept() -> None:
    # Each concept marks its languages in a direction of its own: nothing carries over from one concept to another.
    rng = np.random.default_rng(0)
    marks, noise = rng.normal(size=(40, 200)), 0.01
    rows = np.repeat(np.arange(40), 3)
    vectors = {
        "en": marks[rows] + noise * rng.normal(size=(120, 200)),
        "de": -marks[rows] + noise * rng.normal(size=(120, 200)),
    }
    assert language_probe(vectors, ids=[f"c{row}" for row in rows]) < 0.75
    assert language_probe(vectors, ids=list(range(120))) > 0.95


def test_language_probe_draws_its_sample_by_seed() -> None:
    vectors = {"en": cloud(100, seed=1), "de": cloud(100, seed=2) + 0.4}
    assert language_probe(vectors, sample=30, seed=1) == language_probe(vectors, sample=30, seed=1)
    assert len({language_probe(vectors, sample=30, seed=seed) for seed in range(5)}) > 1
    assert language_probe(vectors, sample=None) == language_probe(vectors, sample=100)


# All of them


def stack(*layers: np.ndarray) -> np.ndarray:
    return np.stack(layers)


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    base = cloud(20, 8)
    return {
        "de": stack(base + 3, base + 0.2, base + 0.1 * cloud(20, 8, 5)),
        "en": stack(base, base, base),
        "ja": stack(base - 3, base - 0.2, base + 0.1 * cloud(20, 8, 6)),
    }


LABELS = [i % 2 for i in range(20)]


def test_align_collects_every_measure_of_every_layer(vectors: dict[str, np.ndarray]) -> None:
    results = align(vectors, LABELS, "en", k=5)
    assert json.loads(json.dumps(results)) == results
    assert [row["layer"] for row in results] == [0, 1, 2]
    for layer, row in enumerate(results):
        at = {language: values[layer] for language, values in vectors.items()}
        assert set(MEASURES) < set(row)
        assert (row["languages"], row["concepts"], row["sample"]) == (3, 20, 20)
        assert row["chance"] == {"knn_mixing": 1.0, "p1": 1 / 20, "language_probe": 1 / 3}
        gaps = {target: gap_ratio(at["en"], at[target]) for target in ("de", "ja")}
        assert row["gap_ratio"] == pytest.approx({"mean": (gaps["de"] + gaps["ja"]) / 2, **gaps})
        mixing = knn_mixing(at, k=5)
        assert row["knn_mixing"] == pytest.approx({"mean": (mixing["de"] + mixing["ja"]) / 2, **mixing})
        for form in ("raw", "centred"):
            for way in ("to_source", "from_source"):
                hit = {target: retrieval(at["en"], at[target], form == "centred")[way] for target in ("de", "ja")}
                assert row["p1"][form][way] == pytest.approx({"mean": (hit["de"] + hit["ja"]) / 2, **hit})
        assert row["silhouette"] == pytest.approx(silhouettes(at, LABELS))
        assert row["language_probe"] == pytest.approx(language_probe(at))
    assert results[0]["gap_ratio"]["mean"] > results[1]["gap_ratio"]["mean"] > results[2]["gap_ratio"]["mean"]


def test_align_picks_and_names_layers_and_measures(vectors: dict[str, np.ndarray]) -> None:
    some = ("gap_ratio", "silhouette")
    whole = align(vectors, LABELS, measures=some)
    assert set(whole[0]) == {"layer", "languages", "concepts", "sample", "chance", *some}
    assert align(vectors, LABELS, measures=some, layers=(0, 2)) == [whole[0], whole[2]]
    named = align(vectors, LABELS, measures=some, layers=(0, 6, 12))
    assert named == [row | {"layer": layer} for row, layer in zip(whole, (0, 6, 12), strict=True)]


def test_errors_name_the_rule_and_the_language(vectors: dict[str, np.ndarray]) -> None:
    a = cloud()
    with pytest.raises(ValueError, match="got 1: give the source and at least one target"):
        knn_mixing({"en": a})
    with pytest.raises(ValueError, match=r"de is \(39, 6\), en \(40, 6\): keep the items"):
        silhouettes({"en": a, "de": a[:-1]}, [0] * 40)
    with pytest.raises(ValueError, match=r"en: expected \(items, hidden\)"):
        knn_mixing({"en": a[None], "de": a[None]})
    with pytest.raises(ValueError, match="choose k from 1 to 39"):
        knn_mixing({"en": a, "de": a}, k=40)
    with pytest.raises(ValueError, match="39 labels for 40 items"):
        silhouettes({"en": a, "de": a}, [0] * 39)
    with pytest.raises(ValueError, match="two labels or more"):
        silhouettes({"en": a, "de": a}, [0] * 40)
    with pytest.raises(ValueError, match="39 ids for 40 items"):
        language_probe({"en": a, "de": a}, list(range(39)))
    with pytest.raises(ValueError, match="5 folds need 5 concepts"):
        language_probe({"en": a, "de": a}, [i % 4 for i in range(40)])
    with pytest.raises(ValueError, match=r'Unknown measure "knn"'):
        align(vectors, LABELS, measures=("knn",))
    with pytest.raises(ValueError, match=r'Unknown source language "fr"'):
        align(vectors, LABELS, source="fr")
    for layers in ((0, 3), (2, 1), (0, 1, 2, 3), (-1, 0, 1), ()):
        with pytest.raises(ValueError, match="increasing layer numbers"):
            align(vectors, LABELS, layers=layers)
    with pytest.raises(ValueError, match="as many layers in every language"):
        align(vectors | {"de": vectors["de"][:2]}, LABELS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: np.ones_like(rows) * 0.1, "Layer 1: ja: all 20 vectors are the same"),
        (lambda rows: rows * np.where(np.arange(20) == 3, np.nan, 1)[:, None], "Layer 1: ja: 1 of 20 vectors hold NaN"),
        (lambda rows: rows * (np.arange(20) != 3)[:, None], "Layer 1: ja: row 3 is a zero vector"),
    ],
)
def test_collapsed_and_broken_vectors_are_refused(vectors: dict[str, np.ndarray], spoil: Any, message: str) -> None:
    vectors["ja"][1] = spoil(vectors["ja"][1])
    with pytest.raises(ValueError, match=message):
        align(vectors.copy(), LABELS, "en", k=5, measures=("knn_mixing",))


# Sentence vectors

WORDS = "cat dog sun red tiny house and the of a runs sleeps".split()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="module")
def model() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        hidden_dropout_prob=0.5,
    )
    return BertModel(config, add_pooling_layer=False)


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(count)]


def fake_task(columns: tuple[str, ...] = ("text",), items: int = 23) -> ParallelTask:
    data = Languages()
    for seed, language in enumerate(("en", "de")):
        table: dict[str, list[Any]] = {"id": [f"c{i}" for i in range(items)], "label": [0] * items}
        table |= {name: texts(items, 10 * seed + i) for i, name in enumerate(columns)}
        data[language] = Dataset.from_dict(table)
    return ParallelTask("fake", "en", ("en", "de"), ("a",), columns, {"test": data})


def one_by_one(model: BertModel, tokenizer: Any, task: Any, language: str) -> np.ndarray:
    rows = []
    for row in task["test"][language]:
        inputs = tokenizer(*[row[name] for name in task.text_columns], return_tensors="pt")
        with torch.no_grad():
            states = model.eval()(**inputs, output_hidden_states=True).hidden_states
        rows.append([[float(x) for x in state[0].mean(0)] for state in states])
    return np.array(rows).transpose(1, 0, 2)


@pytest.mark.parametrize("columns", [("text",), ("premise", "hypothesis")])
@pytest.mark.parametrize("batch_size", [4, 64])
def test_sentence_vectors_are_those_of_single_sentences(
    model: BertModel, tokenizer: Any, columns: tuple[str, ...], batch_size: int
) -> None:
    task = fake_task(columns, items=9)
    model.train()
    found = sentence_vectors(model, tokenizer, task, batch_size=batch_size)
    assert all(module.training for module in model.modules())
    assert list(found) == ["en", "de"]
    for language, got in found.items():
        assert (got.shape, got.dtype) == ((4, 9, 8), np.float32)
        np.testing.assert_allclose(got, one_by_one(model, tokenizer, task, language), atol=2e-6)


def test_layer_zero_is_the_embedding_block_and_padding_does_not_enter(model: BertModel, tokenizer: Any) -> None:
    model.eval()
    batch = tokenizer(["the red cat", "dog"], padding=True, return_tensors="pt")
    wide = tokenizer(["the red cat", "dog"], padding="max_length", max_length=20, return_tensors="pt")
    with torch.no_grad():
        narrow, padded = pooled_layers(model, batch), pooled_layers(model, wide)
        embedded = model.embeddings(batch["input_ids"])
    torch.testing.assert_close(narrow, padded, atol=1e-6, rtol=0)
    torch.testing.assert_close(narrow[0, 0], embedded[0].mean(0))
    torch.testing.assert_close(narrow[0, 1], embedded[1, :3].mean(0))


def test_sentence_vectors_choose_layers_and_languages_and_put_modes_back(model: BertModel, tokenizer: Any) -> None:
    task = fake_task()
    everything = sentence_vectors(model, tokenizer, task)
    model.train()
    model.embeddings.eval()
    some = sentence_vectors(model, tokenizer, task, languages=["de"], layers=(0, 3))
    assert model.training and model.encoder.training and not model.embeddings.training
    assert list(some) == ["de"]
    np.testing.assert_array_equal(some["de"], everything["de"][[0, 3]])


def test_sentence_vectors_follow_the_first_language_in_order(model: BertModel, tokenizer: Any) -> None:
    task = fake_task()
    straight = sentence_vectors(model, tokenizer, task)
    task.splits["test"]["de"] = task.splits["test"]["de"].select(range(22, -1, -1))
    np.testing.assert_allclose(sentence_vectors(model, tokenizer, task)["de"], straight["de"], atol=2e-6)


def test_sentence_vectors_cut_long_texts_with_a_count(model: BertModel, tokenizer: Any) -> None:
    task = fake_task()
    with pytest.warns(UserWarning, match="longer than 5 tokens"):
        cut = sentence_vectors(model, tokenizer, task, layers=[0], max_length=5)
    assert np.abs(cut["en"] - sentence_vectors(model, tokenizer, task, layers=[0])["en"]).max() > 0.01


def test_sentence_vectors_refuse_what_does_not_exist(model: BertModel, tokenizer: Any) -> None:
    task = fake_task()
    model.train()
    with pytest.raises(ValueError, match=r'Unknown split "tests". Did you mean "test"'):
        sentence_vectors(model, tokenizer, task, split="tests")
    with pytest.raises(ValueError, match=r'Unknown language of this split "fr".*Valid: en, de'):
        sentence_vectors(model, tokenizer, task, languages=["en", "fr"])
    with pytest.raises(ValueError, match="from 0 to 3"):
        sentence_vectors(model, tokenizer, task, layers=[4])
    with pytest.raises(ValueError, match=r"run\.model\.encoder"):
        sentence_vectors(SimpleNamespace(encoder=model), tokenizer, task)  # type: ignore[arg-type]
    task.splits["test"]["de"] = task.splits["test"]["de"].select(range(20))
    with pytest.raises(ValueError, match=r"3 ids, such as 'c20', are in one of en and de only"):
        sentence_vectors(model, tokenizer, task)
    assert all(module.training for module in model.modules())
