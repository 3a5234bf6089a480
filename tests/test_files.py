"""Folders are whole or absent: whatever happens while they are written, and whatever is done to them afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from xlt_tutorial.files import is_whole, sweep, whole_folder


def write(folder: Path, text: str = "content") -> None:
    with whole_folder(folder) as work:
        (work / "a.txt").write_text(text)
        (work / "deep").mkdir()
        (work / "deep" / "b.bin").write_bytes(bytes(range(256)))


def start(code: str, *arguments: object) -> subprocess.Popen:
    """A process that imports the package's files alone: a tenth of a second."""
    prelude = "import sys, time\nfrom pathlib import Path\nfrom xlt_tutorial.files import is_whole, whole_folder\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_block_that_ends_well_gives_a_whole_folder(tmp_path):
    folder = tmp_path / "parent" / "new"
    write(folder)
    assert is_whole(folder)
    assert (folder / "a.txt").read_text() == "content"
    assert (folder / "deep" / "b.bin").read_bytes() == bytes(range(256))
    assert list(folder.parent.iterdir()) == [folder]


def test_nothing_is_there_until_the_block_ends(tmp_path):
    with whole_folder(tmp_path / "new") as work:
        (work / "a.txt").write_text("half")
        assert not (tmp_path / "new").exists()
        assert work.parent == tmp_path  # the same file system: the rename is atomic
    assert (tmp_path / "new" / "a.txt").exists()


def test_every_file_is_on_the_disk_before_the_folder_gets_its_name(tmp_path, monkeypatch):
    synced, sync = set(), os.fsync

    def note(handle: int) -> None:
        assert not (tmp_path / "new").exists()
        synced.add(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "new")
    assert {path.stat().st_ino for path in (tmp_path / "new").rglob("*") if path.is_file()} <= synced


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_nothing(tmp_path, error):
    with pytest.raises(error), whole_folder(tmp_path / "new") as work:
        (work / "a.txt").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_folder_and_sweep_removes_the_rest(tmp_path):
    code = """
with whole_folder(Path(sys.argv[1])) as work:
    (work / "a.txt").write_text("half")
    print("inside", flush=True)
    time.sleep(60)
"""
    process = start(code, tmp_path / "new")
    assert process.stdout.readline() == "inside\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    (left,) = tmp_path.iterdir()
    assert (left / "a.txt").read_text() == "half"
    (tmp_path / "else").mkdir()
    sweep(tmp_path, older_than=3600)
    assert left.exists()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["else"]


def test_sweep_goes_by_age(tmp_path):
    for name, age in (("young", 10), ("old", 100)):
        with pytest.raises(RuntimeError), whole_folder(tmp_path / name) as work:
            work.rename(tmp_path / f".writing-{name}")
            raise RuntimeError
        os.utime(tmp_path / f".writing-{name}", (time.time() - age,) * 2)
    sweep(tmp_path, older_than=50)
    assert [path.name for path in tmp_path.iterdir()] == [".writing-young"]
    sweep(tmp_path / "no such folder")
    (tmp_path / ".writing-gone").symlink_to("nowhere")  # as if it vanished under our eyes
    sweep(tmp_path, older_than=50)


def change_a_byte(folder: Path) -> None:
    data = bytearray((folder / "deep" / "b.bin").read_bytes())
    data[100] ^= 1
    (folder / "deep" / "b.bin").write_bytes(data)


def tell_a_lie(folder: Path) -> None:
    sums = json.loads((folder / "sums.json").read_text())
    (folder / "sums.json").write_text(json.dumps(sums | {"a.txt": "0" * 64}))


SPOILS = {
    "changed byte": change_a_byte,
    "truncated file": lambda folder: (folder / "a.txt").write_text("conten"),
    "missing file": lambda folder: (folder / "a.txt").unlink(),
    "added file": lambda folder: (folder / "c.txt").write_text(""),
    "renamed file": lambda folder: (folder / "a.txt").rename(folder / "A.txt"),
    "file added below": lambda folder: (folder / "deep" / "sums.json").write_text("{}"),
    "no sums": lambda folder: (folder / "sums.json").unlink(),
    "half of the sums": lambda folder: (folder / "sums.json").write_text('{"a.txt": "'),
    "binary sums": lambda folder: (folder / "sums.json").write_bytes(b"\xff\xfe\x00"),
    "wrong sums": tell_a_lie,
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_folder_that_was_touched_is_not_whole(tmp_path, spoil):
    write(tmp_path / "new")
    assert is_whole(tmp_path / "new")
    SPOILS[spoil](tmp_path / "new")
    assert not is_whole(tmp_path / "new")


def test_an_absent_folder_and_a_file_are_not_whole(tmp_path):
    assert not is_whole(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert not is_whole(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert not is_whole(tmp_path / "empty")


def test_the_first_of_two_writers_wins_and_the_second_is_content(tmp_path):
    with whole_folder(tmp_path / "new") as slow:
        (slow / "a.txt").write_text("slow")
        write(tmp_path / "new", "quick")
    assert is_whole(tmp_path / "new")
    assert (tmp_path / "new" / "a.txt").read_text() == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_is_not_whole_is_not_overwritten(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("precious")
    with pytest.raises(OSError):
        write(tmp_path / "new")
    assert (tmp_path / "new" / "mine.txt").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_two_processes_that_race_leave_one_whole_folder(tmp_path):
    code = """
folder, mark = Path(sys.argv[1]), sys.argv[2]
for turn in range(40):
    print("ready", flush=True)
    sys.stdin.readline()
    with whole_folder(folder / str(turn)) as work:
        for name in "abc":
            (work / name).write_text(mark)
    assert is_whole(folder / str(turn))
"""
    racers = [start(code, tmp_path, mark) for mark in ("first", "second")]
    for _ in range(40):
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
    for racer in racers:
        racer.communicate()
        assert racer.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(40)))
    for folder in tmp_path.iterdir():
        assert is_whole(folder)
        assert len({(folder / name).read_text() for name in "abc"}) == 1  # never a mixture
