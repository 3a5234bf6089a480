"""Synthetic languages: each distortion does exactly what it says, and nothing else."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from xlt_tutorial.alignment import gap_ratio, knn_mixing, linear_cka, retrieval
from xlt_tutorial.errors import XltError
from xlt_tutorial.synthetic import concept_space, synthetic_languages

ITEMS, CONTENT, BESIDE = 40, 6, 4
LABELS = [f"label {i % 3}" for i in range(ITEMS)]


@pytest.fixture(scope="module")
def concepts() -> np.ndarray:
    """Away from the origin and of no unit spread, so that nothing rests on either."""
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 9)) * np.linspace(3, 0.5, 9)
    return 2.5 * concept_space(vectors, CONTENT, BESIDE)[0] + 1.5 * np.eye(CONTENT + BESIDE)[0]


def spread(cloud: np.ndarray) -> float:
    centre = [math.fsum(column) / len(column) for column in cloud.T]
    return math.sqrt(math.fsum((x - m) ** 2 for row in cloud for x, m in zip(row, centre, strict=True)) / len(cloud))


def about(cloud: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return cloud - centre.mean(0)


# --- concept_space


def test_concepts_keep_the_shape_of_the_cloud_and_leave_room_beside_it() -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 5)) + 7
    space, kept = concept_space(vectors, content=5, beside=3)
    assert space.shape == (30, 8) and kept == pytest.approx(1)
    assert not space[:, 5:].any()
    assert np.allclose(space.mean(0), 0) and np.mean((space**2).sum(1)) == pytest.approx(1)
    distance = [np.linalg.norm(cloud[3] - cloud[:], axis=1)[4:] for cloud in (space, vectors)]
    assert np.allclose(distance[0] / distance[1], 1 / spread(vectors))


def test_concepts_are_the_widest_directions() -> None:
    vectors = np.random.default_rng(2).normal(size=(200, 4)) * [1, 10, 0.1, 3]
    space, kept = concept_space(vectors, content=2, beside=0)
    assert space.shape == (200, 2)
    assert abs(np.corrcoef(space[:, 0], vectors[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(space[:, 1], vectors[:, 3])[0, 1]) > 0.99
    assert kept == pytest.approx(vectors.var(0)[[1, 3]].sum() / vectors.var(0).sum(), rel=0.01)


@pytest.mark.parametrize(("shape", "content"), [((10, 4), 5), ((4, 10), 4), ((10, 4), 0), ((10,), 1)])
def test_more_content_than_there_is_is_an_error(shape: tuple[int, ...], content: int) -> None:
    with pytest.raises(XltError, match=r"content from 1 to min\(items - 1, hidden\)"):
        concept_space(np.random.default_rng(0).normal(size=shape), content)


# --- synthetic_languages


def test_without_a_distortion_every_language_is_the_concepts(concepts: np.ndarray) -> None:
    languages = synthetic_languages(concepts, 3)
    assert list(languages) == ["en", "L1", "L2", "L3"]
    assert all(np.allclose(cloud, concepts) for cloud in languages.values())
    assert list(synthetic_languages(concepts, 0)) == ["en"]


@pytest.mark.parametrize("kind", ["shift", "mark"])
@pytest.mark.parametrize("strength", [0.2, 1.0, 5.0])
def test_an_offset_is_the_gap_ratio(concepts: np.ndarray, kind: str, strength: float) -> None:
    languages = synthetic_languages(concepts, 3, **{kind: strength})
    assert np.allclose(languages["en"], concepts)
    offsets = [languages[target] - concepts for target in ("L1", "L2", "L3")]
    for target, offset in zip(("L1", "L2", "L3"), offsets, strict=True):
        assert gap_ratio(languages["en"], languages[target]) == pytest.approx(strength)
        assert np.allclose(offset, offset[0])
        assert bool(np.allclose(offset[:, :CONTENT], 0)) == (kind == "mark")
        assert bool(np.allclose(offset[:, CONTENT:], 0)) == (kind == "shift")
    cosines = [abs(a[0] @ b[0]) / np.linalg.norm(a[0]) / np.linalg.norm(b[0]) for a, b in pairwise(offsets)]
    assert max(cosines) < 0.99
    assert kind == "shift" or max(cosines) < 1e-12


@pytest.mark.parametrize("degrees", [10.0, 60.0, 90.0, 180.0])
def test_a_turn_turns_every_vector_by_its_angle_about_the_centroid(concepts: np.ndarray, degrees: float) -> None:
    languages = synthetic_languages(concepts, 2, turn=degrees)
    assert np.allclose(languages["en"], concepts)
    before = about(concepts, concepts)
    for target in ("L1", "L2"):
        after = about(languages[target], concepts)
        length = np.linalg.norm(before, axis=1)
        assert np.allclose(np.linalg.norm(after, axis=1), length)
        assert np.allclose((before * after).sum(1) / length**2, math.cos(math.radians(degrees)))
        assert linear_cka(concepts, languages[target]) == pytest.approx(1)
        assert gap_ratio(concepts, languages[target]) == pytest.approx(0, abs=1e-12)
    assert degrees == 180 or not np.allclose(languages["L1"], languages["L2"])


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_a_scale_widens_a_target_about_its_centroid_with_its_noise(concepts: np.ndarray, factor: float) -> None:
    plain, scaled = (synthetic_languages(concepts, 2, noise=0.5, scale=scale) for scale in (1, factor))
    assert np.array_equal(plain["en"], scaled["en"])
    for target in ("L1", "L2"):
        assert np.allclose(about(scaled[target], concepts), factor * about(plain[target], concepts))
        assert linear_cka(scaled["en"], scaled[target]) == pytest.approx(linear_cka(plain["en"], plain[target]))


def test_a_turn_takes_the_noise_along(concepts: np.ndarray) -> None:
    plain, turned = (synthetic_languages(concepts, 1, noise=0.5, turn=turn) for turn in (0, 50))
    assert linear_cka(turned["en"], turned["L1"]) == pytest.approx(linear_cka(plain["en"], plain["L1"]))
    assert not np.allclose(plain["L1"], turned["L1"])


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_shuffling_moves_so_many_items_and_keeps_the_set(concepts: np.ndarray, share: float) -> None:
    languages = synthetic_languages(concepts, 2, shuffle=share)
    assert np.allclose(languages["en"], concepts)
    for target in ("L1", "L2"):
        cloud = languages[target]
        assert np.allclose(np.sort(cloud[:, 0]), np.sort(concepts[:, 0]))
        moved = ~np.isclose(cloud, concepts).all(1)
        assert moved.sum() == round(share * ITEMS)
        assert retrieval(concepts, cloud)["from_source"] == pytest.approx(1 - moved.mean())
    assert not np.allclose(languages["L1"], languages["L2"])


def test_shuffling_takes_the_noise_along(concepts: np.ndarray) -> None:
    settings: dict[str, Any] = {"noise": 0.5, "shift": 1.0, "turn": 30.0, "collapse": 0.5, "labels": LABELS}
    plain, mixed = (synthetic_languages(concepts, 1, shuffle=shuffle, **settings) for shuffle in (0, 1))
    assert np.array_equal(plain["en"], mixed["en"])
    assert not np.isclose(plain["L1"], mixed["L1"]).all(1).any()
    assert np.allclose(*(cloud["L1"][np.argsort(cloud["L1"][:, 0])] for cloud in (plain, mixed)))


def test_stronger_shuffling_moves_the_same_items_and_more(concepts: np.ndarray) -> None:
    moved = [~np.isclose(synthetic_languages(concepts, 1, shuffle=s)["L1"], concepts).all(1) for s in (0.2, 0.5)]
    assert moved[1][moved[0]].all() and moved[1].sum() > moved[0].sum()


def test_noise_is_as_wide_in_every_direction_as_the_concepts_are() -> None:
    vectors = np.random.default_rng(3).normal(size=(1500, 3)) * [5, 2, 1]
    concepts, _ = concept_space(vectors, 3, 1)
    languages = synthetic_languages(concepts, 1, noise=0.5)
    for cloud in languages.values():
        blur = cloud - concepts
        assert np.allclose(blur[:, :3].std(0), 0.5 * concepts[:, :3].std(0), rtol=0.1)
        assert not blur[:, 3].any()
        assert np.abs(np.corrcoef(np.hstack([blur[:, :3], concepts[:, :3]]).T)[:3, 3:]).max() < 0.1
    assert abs(np.corrcoef(*((languages[one] - concepts)[:, 0] for one in ("en", "L1")))[0, 1]) < 0.1


def test_a_rogue_direction_is_the_same_in_all_languages_and_its_values_are_not() -> None:
    concepts, _ = concept_space(np.random.default_rng(4).normal(size=(1000, 8)), 6, 3)
    languages = synthetic_languages(concepts, 2, rogue=2.0, mark=0.5)
    values = [languages[one][:, -1] for one in languages]
    assert np.allclose(np.std(values, axis=1), 2, rtol=0.1) and np.abs(np.mean(values, axis=1)).max() < 0.25
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < 0.1
    assert np.allclose(languages["en"][:, :-1], concepts[:, :-1])
    for number, target in enumerate(("L1", "L2")):
        assert np.allclose((languages[target] - concepts)[:, :-1], 0.5 * np.eye(8)[6 + number])


@pytest.mark.parametrize("collapse", [0.4, 0.9, 1.0])
def test_collapse_leaves_the_label_and_shrinks_item_and_language_alike(concepts: np.ndarray, collapse: float) -> None:
    languages = synthetic_languages(concepts, 2, shift=2.0, collapse=collapse, labels=LABELS)
    for cloud in languages.values():
        for label in set(LABELS):
            rows = [i for i, one in enumerate(LABELS) if one == label]
            wanted = (1 - collapse) * (concepts[rows] - concepts[rows].mean(0))
            assert np.allclose(cloud[rows] - cloud[rows].mean(0), wanted)
    offset = languages["L1"].mean(0) - languages["en"].mean(0)
    assert np.linalg.norm(offset) == pytest.approx((1 - collapse) * 2 * spread(concepts), abs=1e-9)
    assert np.allclose(languages["en"].mean(0), concepts.mean(0))


def test_collapse_does_not_shrink_the_noise(concepts: np.ndarray) -> None:
    clean, noisy = (synthetic_languages(concepts, 1, noise=noise, collapse=1, labels=LABELS) for noise in (0, 0.3))
    same = synthetic_languages(concepts, 1, noise=0.3)
    for one in clean:
        assert np.allclose(noisy[one] - clean[one], same[one] - concepts)


def test_worlds_of_one_seed_differ_in_the_strength_alone(concepts: np.ndarray) -> None:
    one, two, other = (
        synthetic_languages(concepts, 2, shift=0.3, noise=noise, seed=seed)
        for noise, seed in ((0.4, 0), (0.8, 0), (0.4, 1))
    )
    still = synthetic_languages(concepts, 2, shift=0.3)
    for name in one:
        assert np.allclose(two[name] - still[name], 2 * (one[name] - still[name]))
        assert not np.allclose(one[name], other[name])
    more = synthetic_languages(concepts, 4, shift=0.3, noise=0.4)
    assert all(np.array_equal(more[name], one[name]) for name in one)


def test_the_arguments_stay_as_they_are(concepts: np.ndarray) -> None:
    before = concepts.copy()
    settings: dict[str, Any] = {"shuffle": 1, "noise": 1, "turn": 40, "shift": 1, "mark": 1, "rogue": 1}
    languages = synthetic_languages(concepts, 2, collapse=0.5, labels=LABELS, **settings)
    assert np.array_equal(concepts, before)
    assert set(knn_mixing(languages, k=5)) == set(languages)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shuffle": 1.2}, "shuffle and collapse go from 0 to 1"),
        ({"collapse": -0.1}, "shuffle and collapse go from 0 to 1"),
        ({"scale": 0}, "scale is above 0"),
        ({"noise": -1}, "noise and rogue are not below 0"),
        ({"collapse": 0.5}, "a label for each of the 40 concepts"),
        ({"collapse": 0.5, "labels": LABELS[:-1]}, "a label for each of the 40 concepts"),
        ({"mark": 1, "targets": BESIDE + 1}, "need 5 directions beside the content, not 4"),
        ({"mark": 1, "rogue": 1, "targets": BESIDE}, "need 5 directions beside the content, not 4"),
    ],
)
def test_errors_name_the_rule(concepts: np.ndarray, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(XltError, match=message):
        synthetic_languages(concepts, **settings)


def test_an_odd_number_of_directions_cannot_turn() -> None:
    concepts, _ = concept_space(np.random.default_rng(0).normal(size=(20, 5)), 4, 1)
    with pytest.raises(XltError, match="5 is odd"):
        synthetic_languages(concepts, turn=10)


@pytest.mark.parametrize("concepts", [np.ones((5, 4)), np.zeros((1, 4)), np.arange(4.0)])
def test_concepts_that_do_not_differ_are_an_error(concepts: np.ndarray) -> None:
    with pytest.raises(XltError, match="differ from one another"):
        synthetic_languages(concepts)


def test_labels_may_be_an_array(concepts: np.ndarray) -> None:
    settings: list[Any] = [LABELS, np.array(LABELS)]
    one, two = (synthetic_languages(concepts, 1, collapse=0.5, labels=labels) for labels in settings)
    assert np.array_equal(one["L1"], two["L1"])
