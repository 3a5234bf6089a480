"""README's picture and main table: of what is stored, and right."""

from __future__ import annotations

import importlib.util
import re

import pytest
from conftest import ROOT
from PIL import Image

from xlt_tutorial.widgets import read_maps

spec = importlib.util.spec_from_file_location("front", ROOT / "tools" / "front.py")
front = importlib.util.module_from_spec(spec)
spec.loader.exec_module(front)


def test_picture_and_table_are_of_what_is_stored(capsys):
    assert front.main(["--check"]) == 0, capsys.readouterr().out


def test_the_picture_shows_something():
    with Image.open(front.PICTURE) as image:
        assert image.size == (1500, 750)
        colours = image.convert("RGB").getcolors(1 << 24)
    assert len(colours) > 50 and max(count for count, _ in colours) < 0.9 * 1500 * 750
    assert front.PICTURE.stat().st_size < 250_000


def test_an_old_picture_and_an_old_table_are_found(tmp_path, monkeypatch, capsys):
    stale, text = tmp_path / "old.png", tmp_path / "README.md"
    Image.new("RGB", (4, 4)).save(stale)
    assert front.drawn_from(stale) is None and front.drawn_from(tmp_path / "none.png") is None
    text.write_text(front.README.read_text().replace("gap ratio", "gap"))
    monkeypatch.setattr(front, "README", text)
    assert front.main(["--check"]) == 1 and "README.md: NOT up to date" in capsys.readouterr().out


def test_the_table_by_hand():
    def run(english, *targets):
        return {"correct": dict(zip(("en", "de", "ja"), (english, *targets), strict=True))}

    vanilla = {"0": run("1110", "1100", "1000"), "1": run("1111", "1110", "1100"), "2": run("0000", "0000", "0000")}
    ear = {"0": run("1110", "1110", "1100"), "1": run("1100", "1110", "1110")}
    text = front.table({"runs": {"vanilla": vanilla, "ear": ear, "unheard of": ear}})
    rows = [re.split(r" \| ", line.strip("| ")) for line in text.splitlines()]
    assert rows[0] == ["trained on English with", "seeds", "English", "mean of 2 targets", "gain"]
    assert rows[2][1:4] == ["3", "58.3 ± 52.0", "33.3 ± 31.5"], "75, 100, 0; and 37.5, 62.5, 0"
    # EAR: 62.5 and 75 against 37.5 and 62.5, so +25 and +12.5 with the seeds that both have.
    assert rows[3] == ["**EAR as published**", "2", "62.5 ± 17.7", "68.8 ± 8.8", "+18.8 ± 8.8"]
    assert len(rows) == 4


def test_the_caption_tells_the_kits_numbers():
    maps = read_maps()
    said = front.caption(maps)
    last = maps.info["measures"]
    for stage in maps.stages:
        row = last[stage][-1]
        per_target = [value for code, value in row["gap_ratio"].items() if code in maps.languages[1:]]
        assert f"{sum(per_target) / len(per_target):.2f}" in said
        assert f"{100 * row['p1']['centred']['from_source']['mean']:.0f} %" in said


def test_without_a_study_there_is_no_table(tmp_path):
    text = front.readme(front.README.read_text(), read_maps(), None)
    assert "mean of 13 targets" not in text and front.END in text


@pytest.mark.parametrize("mark", ["BEGIN", "END"])
def test_the_marks_are_there_once(mark):
    assert front.README.read_text().count(getattr(front, mark)) == 1


@pytest.mark.parametrize(("seeds", "warned"), [(1, True), (2, True), (3, False)])
def test_few_seeds_come_with_a_warning(seeds, warned):
    runs = {str(seed): {"correct": {"en": "10", "de": "01"}} for seed in range(seeds)}
    text = front.readme(front.README.read_text(), read_maps(), {"runs": {"vanilla": runs, "ear": runs}})
    assert (f"With as few as {seeds} seed{'s' * (seeds > 1)} so far, read no order into it" in text) == warned
