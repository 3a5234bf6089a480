"""MEXA and linear CKA: by plain loops, and what each is blind to and sees."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from xlt_tutorial.alignment import MEASURES, MORE_MEASURES, align, gap_ratio, linear_cka, mexa, retrieval, silhouettes


def cloud(items: int = 40, hidden: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, hidden))


def rotation(hidden: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(cloud(hidden, hidden, seed))[0]


def pair(items: int = 40, hidden: int = 6, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds that are aligned in part."""
    a = cloud(items, hidden, 1)
    return a, a + noise * cloud(items, hidden, 2)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(x) ** 2 for x in b))


def mexa_by_loops(source: np.ndarray, target: np.ndarray) -> float:
    """As the published definition reads: the whole matrix, then each diagonal value against its row and column."""
    matrix = [[cosine(a, b) for b in target] for a in source]
    n, hits = len(matrix), 0
    for i in range(n):
        row = [matrix[i][j] for j in range(n) if j != i]
        column = [matrix[j][i] for j in range(n) if j != i]
        hits += matrix[i][i] > max(row) and matrix[i][i] > max(column)
    return hits / n


def cka_by_kernels(source: np.ndarray, target: np.ndarray) -> float:
    """HSIC of the two kernels between items over its geometric mean with itself; shares no matrix with the code."""
    n = len(source)
    centre = np.eye(n) - 1 / n
    k, l = (centre @ (x @ x.T) @ centre for x in (source, target))  # noqa: E741

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return sum(float(a[i, j]) * float(b[i, j]) for i in range(n) for j in range(n)) / (n - 1) ** 2

    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


# MEXA


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0, 3.0])
def test_mexa_by_plain_loops(noise: float) -> None:
    a, b = pair(noise=noise)
    assert mexa(a, b) == mexa_by_loops(a, b)


def test_mexa_has_values_in_between_and_both_ends() -> None:
    a, b = pair()
    assert mexa(a, a) == 1
    assert 0 < mexa(a, b) < 1
    assert mexa(a, np.roll(a, 1, axis=0)) == 0


def test_mexa_asks_row_and_column_and_so_never_passes_p1() -> None:
    for seed in range(5):
        a = cloud(60, 4, seed)
        b = a + 0.5 * cloud(60, 4, seed + 50) + 0.3
        ways = retrieval(a, b)
        assert mexa(a, b) <= min(ways.values())
        assert mexa(a, b) == mexa(b, a)
    # At 20 degrees, the first target is nearer to the second source than to its own: its column fails, not its row.
    # The row of the second source fails for the same reason, not its column.
    a, b = (
        np.array([[math.cos(math.radians(x)), math.sin(math.radians(x))] for x in at]) for at in ((0, 30), (20, 45))
    )
    assert retrieval(a, b) == {"from_source": 0.5, "to_source": 0.5}
    assert mexa(a, b) == mexa_by_loops(a, b) == 0


@pytest.mark.parametrize("items", [511, 512, 513, 1100])
def test_mexa_is_the_same_in_chunks(items: int) -> None:
    a, b = pair(items, 8)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    matrix = unit[0] @ unit[1].T
    best = np.maximum((matrix - 9 * np.eye(items)).max(0), (matrix - 9 * np.eye(items)).max(1))
    assert mexa(a, b) == pytest.approx((np.diag(matrix) > best).mean())


def test_mexa_takes_memory_that_is_linear_in_the_items() -> None:
    a, b = pair(6000, 8)
    tracemalloc.start()
    mexa(a, b)
    linear_cka(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 6000 * 8 / 4  # the whole matrix would take four times that


@pytest.mark.parametrize("hidden", [3, 7, 384])
def test_mexa_counts_no_item_whose_twin_is_as_close(hidden: int) -> None:
    """Vectors of one direction: their cosines are equal, but for the rounding of another length or another chunk."""
    a = cloud(600, hidden)
    a[500:] = np.linspace(0.1, 9, 100)[:, None] * a[:100]
    assert mexa(a, a) == mexa(a, a / 7) == 400 / 600


def test_mexa_of_clouds_that_share_nothing_is_its_chance() -> None:
    found = [mexa(cloud(5, 30, seed), cloud(5, 30, 5000 + seed)) for seed in range(2000)]
    assert np.mean(found) == pytest.approx(1 / 9, abs=0.01)


def test_mexa_is_blind_to_scale_and_to_a_common_rotation() -> None:
    a, b = pair()
    expected, q = mexa(a, b), rotation(6)
    lengths = np.random.default_rng(3).uniform(0.1, 10, size=(40, 1))
    assert mexa(7 * a, 7 * b) == mexa(a, 7 * b) == mexa(lengths * a, b) == mexa(a, lengths[::-1] * b) == expected
    assert mexa(a @ q, b @ q) == expected


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("wide", [0.1, 1.0, 20.0])
def test_mexa_is_blind_to_monotone_changes_such_as_a_language_offset_beside_the_content(wide: float, sign: int) -> None:
    """One more direction turns each cosine c into (c + sign w^2) / (1 + w^2): other values in the same order."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in pair())
    offset = np.full((40, 1), wide)
    moved = np.hstack([a, offset]), np.hstack([b, sign * offset])
    assert cosine(moved[0][0], moved[1][1]) == pytest.approx((a[0] @ b[1] + sign * wide**2) / (1 + wide**2))
    assert mexa(*moved) == mexa(a, b) > 0.3
    assert sign == 1 or gap_ratio(*moved) > 1.9 * wide


def test_mexa_sees_mixed_pairs_a_rotation_of_one_cloud_and_an_offset_within_the_content() -> None:
    a, b = pair(noise=0.1)
    assert mexa(a, b) > 0.9
    half = np.concatenate([b[:20], np.roll(b[20:], 1, axis=0)])
    assert mexa(a, half) < 0.6
    assert mexa(a, b @ rotation(6)) < 0.3
    assert mexa(a, b + 20 * np.eye(6)[0]) < 0.3


# CKA


@pytest.mark.parametrize("hidden", [3, 6, 60])
def test_linear_cka_by_the_kernels_of_its_definition(hidden: int) -> None:
    a, b = pair(25, hidden)
    assert linear_cka(a, b + 4) == pytest.approx(cka_by_kernels(a, b + 4), rel=1e-9)
    assert linear_cka(a, b) == pytest.approx(linear_cka(b, a))


def test_linear_cka_of_one_dimension_is_the_squared_correlation() -> None:
    from scipy.stats import pearsonr

    a, b = pair(30, 1)
    assert linear_cka(a, b) == pytest.approx(pearsonr(a[:, 0], b[:, 0]).statistic ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_linear_cka_lies_between_0_and_1(seed: int) -> None:
    a, b = cloud(12, 30, seed), cloud(12, 30, seed + 50)
    assert 0 < linear_cka(a, b) < 1
    assert linear_cka(a, a) == pytest.approx(1)
    left = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert linear_cka(left, left[::-1]) == pytest.approx(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b @ rotation(6),
        lambda b: b * [1, -1, 1, 1, 1, 1],
        lambda b: b[:, ::-1],
        lambda b: 1000 * b,
        lambda b: b + 50 * np.arange(6),
        lambda b: 0.01 * b @ rotation(6, 4) - 3,
    ],
    ids=["rotation", "reflection", "order of directions", "scale", "shift", "all of them"],
)
def test_linear_cka_is_blind_to_shift_rotation_and_isotropic_scale_of_either_cloud(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    a, b = pair()
    assert linear_cka(a, change(b)) == pytest.approx(linear_cka(a, b), rel=1e-8)
    assert linear_cka(change(a), b) == pytest.approx(linear_cka(a, b), rel=1e-8)


def test_linear_cka_is_1_where_languages_lie_apart_and_no_neighbour_is_a_translation() -> None:
    a = cloud(60)
    b = a @ rotation(6) + 20
    assert linear_cka(a, b) == pytest.approx(1)
    assert gap_ratio(a, b) > 10
    assert mexa(a, b) < 0.1 and max(retrieval(a, b).values()) < 0.2


def test_linear_cka_sees_mixed_pairs_noise_and_unequal_stretching_most_in_wide_directions() -> None:
    a = cloud(200)
    assert linear_cka(a, np.roll(a, 1, axis=0)) < 0.1
    falling = [linear_cka(a, a + noise * cloud(200, 6, 9)) for noise in (0.1, 0.5, 1, 2, 5)]
    assert falling == sorted(falling, reverse=True) and falling[0] > 0.95 and falling[-1] < 0.2
    assert linear_cka(a, a * [10, 1, 1, 1, 1, 1]) < 0.6
    assert linear_cka(a, a @ (rotation(6) * [9, 5, 1, 1, 1, 0.1])) < 0.9  # invertible all the same
    wide = a * [10, 1, 1, 1, 1, 1]
    spoilt = [np.where(np.arange(6) == at, np.roll(wide, 1, axis=0), wide) for at in (0, 5)]
    assert linear_cka(wide, spoilt[0]) < 0.1 < 0.99 < linear_cka(wide, spoilt[1])


def test_linear_cka_of_few_items_is_far_from_0_without_alignment() -> None:
    few, many = (np.mean([linear_cka(cloud(n, 40, s), cloud(n, 40, s + 90)) for s in range(20)]) for n in (40, 2000))
    assert few == pytest.approx(0.5, abs=0.03)
    assert many == pytest.approx(40 / 2040, abs=0.003)


# In align


def stacks() -> dict[str, np.ndarray]:
    base = cloud(20, 8)
    return {
        "de": np.stack([base + 3, base + 0.5 * cloud(20, 8, 5)]),
        "en": np.stack([base, base]),
        "ja": np.stack([base - 3, base + 0.9 * cloud(20, 8, 6)]),
    }


def test_align_takes_them_by_name_and_its_default_is_as_before() -> None:
    vectors, labels = stacks(), [i % 2 for i in range(20)]
    assert not set(MORE_MEASURES) & set(MEASURES)
    before = align(vectors, labels, k=5)
    assert all(not set(MORE_MEASURES) & (set(row) | set(row["chance"])) for row in before)
    both = align(vectors, labels, k=5, measures=MEASURES + MORE_MEASURES)
    assert json.loads(json.dumps(both)) == both
    for layer, (old, row) in enumerate(zip(before, both, strict=True)):
        assert {key: value for key, value in row.items() if key not in (*MORE_MEASURES, "chance")} == {
            key: value for key, value in old.items() if key != "chance"
        }
        assert {**row["chance"], **old["chance"]} == row["chance"]
        at = {language: values[layer] for language, values in vectors.items()}
        for name, measure in (("mexa", mexa), ("linear_cka", linear_cka)):
            values = {target: measure(at["en"], at[target]) for target in ("de", "ja")}
            assert row[name] == pytest.approx({"mean": (values["de"] + values["ja"]) / 2, **values})
        assert row["chance"]["mexa"] == pytest.approx(1 / 39)
    assert both[0]["linear_cka"]["mean"] == pytest.approx(1)  # the shift alone
    alone = align(vectors, labels, measures=["mexa"])[1]
    assert set(alone) == {"layer", "languages", "concepts", "sample", "chance", "mexa"}
    with pytest.raises(ValueError, match=r'Unknown measure "cka".*mexa, linear_cka'):
        align(vectors, labels, measures=["cka"])


def test_the_chance_of_cka_is_its_mean_over_every_way_to_pair_the_items() -> None:
    vectors = {"en": cloud(6, 3, 1)[None], "de": cloud(6, 3, 2)[None] + 2, "ja": cloud(6, 3, 3)[None] ** 2}
    row = align(vectors, [0, 1] * 3, measures=["linear_cka"])[0]
    means = []
    for target in ("de", "ja"):
        orders = itertools.permutations(range(6))
        means.append(np.mean([linear_cka(vectors["en"][0], vectors[target][0][list(order)]) for order in orders]))
    assert row["chance"]["linear_cka"] == pytest.approx(np.mean(means))


@pytest.mark.parametrize("measure", [mexa, linear_cka])
def test_errors_name_the_rule(measure: Callable[[np.ndarray, np.ndarray], float]) -> None:
    a = cloud()
    with pytest.raises(ValueError, match=r"target is \(39, 6\), source \(40, 6\): keep the items"):
        measure(a, a[:-1])
    with pytest.raises(ValueError, match="target: all 40 vectors are the same"):
        measure(a, np.ones_like(a))
    with pytest.raises(ValueError, match="source: 1 of 40 vectors hold NaN"):
        measure(np.where(np.arange(40)[:, None] == 3, np.nan, a), a)
    with pytest.raises(ValueError, match="two items or more"):
        measure(a[:1], a[:1])


def test_a_zero_vector_has_no_cosine() -> None:
    a = cloud() * (np.arange(40) != 3)[:, None]
    with pytest.raises(ValueError, match="target: row 3 is a zero vector"):
        mexa(cloud(), a)
    assert 0 < linear_cka(cloud(), a) < 1


def test_silhouettes_of_more_points_than_one_part_holds():
    """4,400 points are measured in two parts; scikit-learn visits every pair."""
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(7)
    labels = [f"label {i % 3}" for i in range(2200)]
    concepts = rng.normal(size=(2200, 4)) + np.array([i % 3 for i in range(2200)])[:, None]
    clouds = {language: concepts + rng.normal(size=(2200, 4)) + shift for shift, language in enumerate(("en", "de"))}
    points, found = np.concatenate(list(clouds.values())), silhouettes(clouds, labels)
    assert found["language"] == pytest.approx(
        silhouette_score(points, [0] * 2200 + [1] * 2200, metric="cosine"), abs=1e-9
    )
    assert found["label"] == pytest.approx(silhouette_score(points, labels * 2, metric="cosine"), abs=1e-9)
