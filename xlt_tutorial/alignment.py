"""The alignment kit: how far apart an encoder keeps the languages, layer by layer.

The measures compare clouds of sentence vectors, (items, hidden) per language, in which row i is the same concept
everywhere. Layer 0 is the output of the embedding block, layer k that of block k. All errors are ``XltError``, a
``ValueError``: for fewer than two languages, unequal shapes, NaN, and vectors that collapsed onto one point.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xlt_tutorial.batching import Batch, Row, collate, encoded_parts
from xlt_tutorial.caching import cached, content_hash, model_hash
from xlt_tutorial.encoders import masked_mean
from xlt_tutorial.errors import XltError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from xlt_tutorial.tasks import ParallelTask

Clouds = Mapping[str, np.ndarray]
MEASURES = ("gap_ratio", "knn_mixing", "p1", "silhouette", "language_probe")
MORE_MEASURES = ("mexa", "linear_cka")  # taken by name only, so that what was stored keeps its form
_CHUNK = 2**24  # cosines held at a time, 64 MB


def pooled_layers(model: PreTrainedModel, batch: Batch, layers: Sequence[int] | None = None) -> torch.Tensor:
    """Return the sentence vectors of one batch, (layers, batch, hidden) in float32: means over tokens with mask 1.

    ``batch`` holds ``input_ids`` and ``attention_mask``, each (batch, seq), and whatever else the forward takes. All
    layers by default. The model's mode (train or eval) and the gradient state are used as found.
    """
    states = model(**batch, output_hidden_states=True).hidden_states
    chosen = range(len(states)) if layers is None else layers
    return torch.stack([masked_mean(states[k].float(), batch["attention_mask"]) for k in chosen])


def sentence_vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: ParallelTask,
    split: str = "test",
    languages: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Encode one split in every language; dropout is off meanwhile and every module's mode is put back afterwards.

    Vectors are kept on disk under the hash of weights, tokens and layers: what was encoded before is only read.

    Args:
        model: The base encoder; of a trained classifier that is ``run.model.encoder``.
        tokenizer: Its tokenizer.
        task: Source of the texts; one text column or two.
        split: Which split.
        languages: Those to encode, all of the split by default.
        layers: Increasing layer numbers, all by default.
        batch_size: Sentences in a forward; sentences of like length share one.
        max_length: Longest sequence in tokens, the tokenizer's limit by default; the rest is cut with a warning.
        progress: Show a bar with the time left.

    Returns:
        ``{language: (layers, items, hidden)}`` in float32. The items of all languages are in the order of the first.

    Raises:
        XltError: For an unknown split, language or layer, and where two languages hold different ids.
    """
    if not hasattr(model, "config"):
        raise XltError(f"{type(model).__name__} is not a base encoder: pass run.model.encoder or the like.")
    from tqdm.auto import tqdm

    numbers = _increasing(layers, int(model.config.num_hidden_layers) + 1)
    chosen = list(task[split] if languages is None else languages)
    data = {language: task[split][language] for language in chosen}
    ids = {language: list(map(str, data[language]["id"][:])) for language in chosen}
    order = ids[chosen[0]] if chosen else []
    for language in chosen:
        if odd := sorted(set(ids[language]) ^ set(order)):
            raise XltError(f"{len(odd)} ids, such as {odd[0]!r}, are in one of {chosen[0]} and {language} only.")
    place = {one: i for i, one in enumerate(order)}
    same = (model_hash(model), numbers, batch_size, str(model.device), torch.__version__)
    vectors: dict[str, np.ndarray] = {}
    with tqdm(total=len(order) * len(chosen), desc="encoding", disable=not progress) as bar:
        for language in chosen:

            def parts(language: str = language) -> Iterator[list[Row]]:
                return encoded_parts(tokenizer, data[language], task.text_columns, max_length)

            def encode(parts: Callable[[], Iterator[list[Row]]] = parts) -> np.ndarray:
                out = np.empty((len(numbers), len(order), model.config.hidden_size), dtype=np.float32)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*and were cut")  # said when the key was made
                    for rows in parts():
                        for at, found in _encoded(model, rows, numbers, int(tokenizer.pad_token_id or 0), batch_size):
                            out[:, [place[rows[i].id] for i in at]] = found
                            bar.update(len(at))
                return out

            tokens = ((place[row.id], row.input_ids, row.token_type_ids) for rows in parts() for row in rows)
            vectors[language] = cached("vectors", content_hash(chain(same, tokens)), encode)
            bar.update(len(order) * len(vectors) - bar.n)  # read, not encoded
    return vectors


def _encoded(
    model: PreTrainedModel, rows: Sequence[Row], layers: Sequence[int], pad_id: int, batch_size: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield numbers of rows and their vectors, (layers, rows, hidden), a batch of like length at a time."""
    modes = {module: module.training for module in model.modules()}
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids))
    try:
        model.eval()
        for start in range(0, len(order), batch_size):
            at = order[start : start + batch_size]
            batch = collate([rows[i] for i in at], pad_id)
            with torch.inference_mode():
                on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
                yield at, pooled_layers(model, on_device, layers).cpu().numpy()
    finally:
        for module, mode in modes.items():
            module.training = mode


def gap_ratio(source: np.ndarray, target: np.ndarray) -> float:
    """Return the distance of two clouds' centroids in units of a cloud's own spread; 0 is no gap, no upper bound.

    ``||mu_s - mu_t|| / sqrt((V_s + V_t) / 2)``; the total variance V is the mean squared distance to the centroid. A
    common shift, rotation or scale does not change it, nor does the order of rows: it sees the offset alone.
    """
    clouds = _checked({"source": source, "target": target})
    gap = clouds["source"].mean(0) - clouds["target"].mean(0)
    return float(np.linalg.norm(gap) / np.sqrt(np.mean([cloud.var(0).sum() for cloud in clouds.values()])))


def knn_mixing(vectors: Clouds, k: int = 10) -> dict[str, float]:
    """Return, per language of the query, the share of other languages among its k nearest over that of full mixing.

    Neighbours are the nearest of all other items of all languages by cosine. 0: a language keeps to itself. 1: language
    plays no part. The maximum, all neighbours foreign, is (L n - 1) / ((L - 1) n) for L languages of n items, just over
    1. Give two languages for the value of a pair. Queries go in chunks, so memory is linear in the items.
    """
    clouds = _checked(vectors)
    n, languages = len(next(iter(clouds.values()))), len(clouds)
    if not 1 <= k < n:
        raise XltError(f"k={k} neighbours do not fit {n} items per language: choose k from 1 to {n - 1}, or add items.")
    points = torch.cat([torch.from_numpy(_unit(clouds.pop(name), name)).float() for name in vectors])
    owner = torch.arange(languages).repeat_interleave(n)
    foreign = torch.empty(len(points), dtype=torch.double)
    for rows in torch.arange(len(points)).split(max(1, _CHUNK // len(points))):
        similarity = points[rows] @ points.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        foreign[rows] = (owner[similarity.topk(k).indices] != owner[rows, None]).double().mean(1)
    expected = (languages - 1) * n / (len(points) - 1)
    return dict(zip(vectors, (foreign.view(languages, n).mean(1) / expected).tolist(), strict=True))


def retrieval(source: np.ndarray, target: np.ndarray, centred: bool = False) -> dict[str, float]:
    """Return P@1, the share of items whose cosine-nearest item of the other language is their translation.

    Both clouds are (items, hidden); ``centred`` first subtracts each one's mean, which takes a pure shift out. Keys
    are ``from_source`` (source -> target) and ``to_source``. Chance is 1 / items; of equals, the first is the nearest.
    """
    clouds = _checked({"source": source, "target": target})
    if centred:
        clouds = {name: cloud - cloud.mean(0) for name, cloud in clouds.items()}
    s, t = (_unit(cloud, name) for name, cloud in clouds.items())

    def hits(queries: np.ndarray, keys: np.ndarray) -> float:
        chunks = range(0, len(queries), 512)
        nearest = np.concatenate([(queries[at : at + 512] @ keys.T).argmax(1) for at in chunks])
        return float((nearest == np.arange(len(queries))).mean())

    return {"from_source": hits(s, t), "to_source": hits(t, s)}


def mexa(source: np.ndarray, target: np.ndarray) -> float:
    """Return MEXA, the share of items that are closer to their translation than either is to any other's; 0 to 1.

    ``mean_i [c_ii > max_{j != i} max(c_ij, c_ji)]``, c_ij the cosine of source item i and target item j (Kargaran et
    al., "MEXA: Multilingual Evaluation of English-Centric LLMs via Cross-Lingual Alignment", 2024): row and column at
    once, so never more than either P@1 of ``retrieval``; an item as close as the translation spoils it. Chance is
    1 / (2 items - 1): compare values of one number of items only. It sees order alone: not the lengths of vectors, not
    a rotation or scale of both clouds, and no change that keeps the order of the cosines, such as an offset of each
    language at right angles to all else, however wide. It sees pairs that are mixed up, a rotation of one cloud, and an
    offset along directions that tell items apart. Queries go in chunks, so memory is linear in the items.
    """
    clouds = _checked({"source": source, "target": target})
    s, t = (_unit(cloud, name) for name, cloud in clouds.items())
    own, by_row, by_column = np.empty(len(s)), np.empty(len(s)), np.full(len(s), -np.inf)
    for at in range(0, len(s), 512):
        cosine = s[at : at + 512] @ t.T
        rows = np.arange(len(cosine))
        own[at : at + 512] = cosine[rows, at + rows]
        cosine[rows, at + rows] = -np.inf
        by_row[at : at + 512] = cosine.max(1)
        by_column = np.maximum(by_column, cosine.max(0))
    return float((own > np.maximum(by_row, by_column) + 1e-12).mean())  # equal vectors differ by rounding


def linear_cka(source: np.ndarray, target: np.ndarray) -> float:
    """Return linear CKA, how alike two clouds are in the way their items differ from one another; from 0 to 1.

    ``||T' S||^2 / (||S' S|| ||T' T||)``, Frobenius norms of S and T, the clouds (items, hidden) minus their means
    (Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019). 1: one is the other, but for
    what it is blind to: a shift, a rotation or reflection, and an isotropic scale of either cloud. So it can be 1
    where the languages lie far apart and no nearest neighbour is a translation. It sees pairs that are mixed up, noise,
    and directions that are stretched unequally, and those of most variance weigh most. With few items it is far above
    0 without any alignment, near hidden / (items + hidden) for round clouds: ``align`` gives the mean over all ways to
    pair the items as ``chance``. The matrices are (hidden, hidden), so memory is linear in the items.
    """
    return _cka(source, target)[0]


def _cka(source: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Linear CKA, and its mean over all permutations of the target's items: that of ``tr(S S' P T T' P')``, exactly."""
    clouds = _checked({"source": source, "target": target})
    s, t = (cloud - cloud.mean(0) for cloud in clouds.values())
    norms = float(np.linalg.norm(s.T @ s) * np.linalg.norm(t.T @ t))
    shuffled = (s**2).sum() * (t**2).sum() / (len(s) - 1)
    return float(np.linalg.norm(t.T @ s) ** 2) / norms, float(shuffled) / norms


def silhouettes(vectors: Clouds, labels: Sequence[Hashable]) -> dict[str, float]:
    """Return the mean silhouette (Rousseeuw, 1987) of all items by ``language`` and by ``label``, from -1 to 1.

    ``labels`` has one label per item. Distances are cosine distances, whose mean over a group is 1 minus the product
    with the group's mean unit vector: so the values are exact, nothing is sampled, and no pair is visited.
    """
    clouds = _checked(vectors)
    if len(labels) != (n := len(next(iter(clouds.values())))):
        raise XltError(f"{len(labels)} labels for {n} items: give one label per item, in the order of the rows.")
    if len(names := list(dict.fromkeys(labels))) < 2:
        raise XltError("A silhouette by label needs two labels or more: choose items of several.")
    points = np.concatenate([_unit(cloud, language) for language, cloud in clouds.items()])
    by_label = np.tile([names.index(label) for label in labels], len(clouds))
    by_language = np.repeat(np.arange(len(clouds)), n)
    return {"language": _silhouette(points, by_language), "label": _silhouette(points, by_label)}


def _silhouette(points: np.ndarray, group: np.ndarray) -> float:
    """Mean silhouette of unit vectors (points, hidden) in groups (points,) numbered from 0; an item alone counts 0."""
    size = np.bincount(group)
    sums = np.stack([points[group == one].sum(0) for one in range(len(size))])
    values = []
    for rows in np.array_split(np.arange(len(points)), -(-len(points) // 4096)):
        distance = size - points[rows] @ sums.T  # summed over each group: (rows, groups)
        member = group[rows, None] == np.arange(len(size))
        own = distance[member] / np.maximum(size[group[rows]] - 1, 1)  # the distance to itself adds 0 to the sum
        other = np.where(member, np.inf, distance / size).min(1)
        value = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
        values.append(np.where(size[group[rows]] > 1, value, 0))
    return float(np.concatenate(values).mean())


def language_probe(
    vectors: Clouds, ids: Sequence[Hashable] | None = None, sample: int | None = 200, seed: int = 0
) -> float:
    """Return how accurately a linear probe names the language of items of unseen concepts; chance is 1 / languages.

    Multinomial logistic regression on standardised vectors, both fitted on the training side of 5 folds grouped by
    concept (``ids``, one per item; the row by default): its translations would tell a probe what language an item is
    not. As this is the slowest measure, ``sample`` concepts drawn with ``seed`` are used, or all with ``None``; compare
    values of one sample size only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    clouds = _checked(vectors)
    n = len(next(iter(clouds.values())))
    if len(keys := list(range(n) if ids is None else ids)) != n:
        raise XltError(f"{len(keys)} ids for {n} items: give one id per item, in the order of the rows.")
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    if min(len(number), len(number) if sample is None else sample) < 5:
        raise XltError(f"5 folds need 5 concepts or more, here are {len(number)} and sample={sample}: give more.")
    concept = np.array([number[key] for key in keys])
    kept = np.isin(concept, np.random.default_rng(seed).permutation(len(number))[:sample])
    points = np.concatenate([cloud[kept] for cloud in clouds.values()]).astype(np.float32)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-3))
    folds = GroupKFold(5, shuffle=True, random_state=seed)
    language, groups = np.repeat(np.arange(len(clouds)), kept.sum()), np.tile(concept[kept], len(clouds))
    with threadpool_limits(1):  # its products are small: two threads that wait for each other take 25 times as long
        return float(cross_val_score(probe, points, language, groups=groups, cv=folds).mean())


def align(
    vectors: Clouds,
    labels: Sequence[Hashable],
    source: str = "en",
    layers: Sequence[int] | None = None,
    measures: Sequence[str] = MEASURES,
    k: int = 10,
    sample: int | None = 200,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure every layer and return one JSON-ready dict for each.

    Args:
        vectors: ``{language: (layers, items, hidden)}``, as ``sentence_vectors`` returns.
        labels: One label per item, in the order of the rows.
        source: The source language; every ``"mean"`` is over the other languages.
        layers: Increasing layer numbers. As many as ``vectors`` holds, they name its layers (pass on what
            ``sentence_vectors`` was given); fewer, they pick from layers that are counted from 0.
        measures: Which of ``MEASURES`` and ``MORE_MEASURES`` to take.
        k: Neighbours of ``knn_mixing``.
        sample: Concepts that the probe sees, ``None`` for all.
        seed: Seed of the probe's sample and folds.

    Returns:
        Per layer ``layer``, ``languages``, ``concepts``, ``sample`` (concepts that the probe saw), ``chance`` (values
        of no skill, or of full mixing) and the measures. ``gap_ratio``, ``knn_mixing``: ``{"mean": .., language: ..}``;
        ``p1``: ``{"raw" | "centred": {"to_source" | "from_source": {"mean": .., target: ..}}}``; ``silhouette``:
        ``{"language": .., "label": ..}``; ``language_probe``: a number; ``mexa``, ``linear_cka``: ``{"mean": ..,
        target: ..}``, and their own ``chance``.

    Raises:
        XltError: For an unknown measure, source or layer, and, naming layer and language, for clouds that have
            different shapes, are collapsed (no variance) or hold NaN.
    """
    for name in measures:
        if name not in MEASURES + MORE_MEASURES:
            raise unknown("measure", name, MEASURES + MORE_MEASURES)
    if source not in vectors:
        raise unknown("source language", source, vectors)
    shapes = {language: np.shape(stack) for language, stack in vectors.items()}
    if any(len(shape) != 3 for shape in shapes.values()) or len({shape[0] for shape in shapes.values()}) > 1:
        raise XltError(f"align takes (layers, items, hidden), as many layers in every language; got {shapes}.")
    labels, held = list(labels), shapes[source][0]
    whole = layers is not None and len(layers) == held
    numbers = _increasing(layers, max(layers or [0]) + 1 if whole else held)
    targets = [language for language in vectors if language != source]

    def with_mean(values: dict[str, float]) -> dict[str, float]:
        return {"mean": float(np.mean([values[target] for target in targets]))} | values

    def measure(clouds: Clouds) -> dict[str, Any]:
        n = len(clouds[source])
        out: dict[str, Any] = {"languages": len(clouds), "concepts": n, "sample": min(n, sample or n)}
        out["chance"] = {"knn_mixing": 1.0, "p1": 1 / n, "language_probe": 1 / len(clouds)}
        if "gap_ratio" in measures:
            out["gap_ratio"] = with_mean({target: gap_ratio(clouds[source], clouds[target]) for target in targets})
        if "knn_mixing" in measures:
            out["knn_mixing"] = with_mean(knn_mixing(clouds, k))
        for form in ("raw", "centred") if "p1" in measures else ():
            found = {t: retrieval(clouds[source], clouds[t], centred=form == "centred") for t in targets}
            ways = {way: with_mean({t: found[t][way] for t in targets}) for way in ("to_source", "from_source")}
            out.setdefault("p1", {})[form] = ways
        if "silhouette" in measures:
            out["silhouette"] = silhouettes(clouds, labels)
        if "language_probe" in measures:
            out["language_probe"] = language_probe(clouds, sample=sample, seed=seed)
        if "mexa" in measures:
            out["mexa"] = with_mean({target: mexa(clouds[source], clouds[target]) for target in targets})
            out["chance"]["mexa"] = 1 / (2 * n - 1)
        if "linear_cka" in measures:
            pairs = {target: _cka(clouds[source], clouds[target]) for target in targets}
            out["linear_cka"] = with_mean({target: value for target, (value, _) in pairs.items()})
            out["chance"]["linear_cka"] = float(np.mean([chance for _, chance in pairs.values()]))
        return out

    results = []
    for row, layer in enumerate(numbers):
        try:
            clouds = _checked({language: stack[row if whole else layer] for language, stack in vectors.items()})
            results.append({"layer": layer} | measure(clouds))
        except XltError as error:
            raise XltError(f"Layer {layer}: {error}") from error
    return results


def _increasing(layers: Sequence[int] | None, count: int) -> list[int]:
    numbers = list(range(count)) if layers is None else [int(layer) for layer in layers]
    if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 0 or numbers[-1] >= count:
        raise XltError(f"layers={numbers}: give increasing layer numbers from 0 to {count - 1}.")
    return numbers


def _checked(vectors: Clouds) -> dict[str, np.ndarray]:
    """The clouds in float64, after the rules that every measure stands on."""
    if len(vectors) < 2:
        raise XltError(f"Alignment compares languages and got {len(vectors)}: give the source and at least one target.")
    clouds = {language: np.asarray(cloud, dtype=np.float64) for language, cloud in vectors.items()}
    first, shape = next((language, cloud.shape) for language, cloud in clouds.items())
    if len(shape) != 2 or shape[0] < 2:
        raise XltError(f"{first}: expected (items, hidden) with two items or more, got {shape}: pick one layer, v[6].")
    for language, cloud in clouds.items():
        if cloud.shape != shape:
            raise XltError(f"{language} is {cloud.shape}, {first} {shape}: keep the items that all languages have.")
        if bad := int((~np.isfinite(cloud)).any(1).sum()):
            raise XltError(f"{language}: {bad} of {len(cloud)} vectors hold NaN or infinity. Has training diverged?")
        if cloud.var(0).sum() <= 1e-12 * (cloud**2).sum(1).mean():
            raise XltError(f"{language}: all {len(cloud)} vectors are the same (collapsed); measures need variance.")
    return clouds


def _unit(cloud: np.ndarray, language: str) -> np.ndarray:
    norms = np.linalg.norm(cloud, axis=1, keepdims=True)
    if not norms.all():
        raise XltError(f"{language}: row {norms.argmin()} is a zero vector, which has no cosine: leave that item out.")
    return cloud / norms
