"""The command line: its errors, what ``xlt train`` leaves behind, and Ctrl-C."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import tiny_run
from conftest import TINY_WORDS, tiny_encoder
from safetensors.torch import load_file
from typer.testing import CliRunner

from xlt_tutorial import cli, demo
from xlt_tutorial.alignment import sentence_vectors
from xlt_tutorial.cli import app
from xlt_tutorial.encoders import load_encoder
from xlt_tutorial.tasks import load_task


def invoke(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a tiny six-block encoder, a task in its words, and a table of synonyms."""
    home = tmp_path_factory.mktemp("cli")
    encoder = tiny_encoder("bert", num_hidden_layers=6)
    encoder.model.save_pretrained(home / "encoder")
    encoder.tokenizer.save_pretrained(home / "encoder")
    rng = np.random.default_rng(0)
    (home / "animals").mkdir()
    for split, language, count in (("train", "en", 40), ("dev", "en", 10), ("test", "en", 20), ("test", "xx", 20)):
        lines = ["id\ttext\tlabel"]
        for i in range(count):
            first = ("cat", "tree")[i % 2]
            rest = " ".join(rng.choice(TINY_WORDS, 3))
            lines.append(f"{split}{i}\t{first} {rest}\t{'animal' if first == 'cat' else 'plant'}")
        (home / "animals" / f"{split}.{language}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (home / "synonyms.tsv").write_text("cat\tdog\ntree\tmoon\nbig\tred\n", encoding="utf-8")
    return home


def tiny(home, *more):
    return ["train", "--task", home / "animals", "--encoder", home / "encoder", "--batch-size", 8,
            "--max-length", 12, *more]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "eer"], ['method "eer"', 'Did you mean "ear"?', "vanilla, ear"]),
        (["--maker", "neighbors"], ['maker "neighbors"', 'Did you mean "neighbours"?', "synonyms, noise"]),
        (["--method", "vanilla", "--maker", "noize"], ['maker "noize"', 'Did you mean "noise"?']),
        (["--task", "emojy"], ['task "emojy"', 'Did you mean "emoji"?']),
        (["--encoder", "e5-smal"], ['encoder "e5-smal"', 'Did you mean "e5-small"?', "mbert"]),
        (["--source", "weel"], ['source "weel"', 'Did you mean "wheel"?', "auto, wheel, hub"]),
        (["--select", "lst"], ['selection "lst"', 'Did you mean "last"?']),
        (["--epochs", "0"], ["epochs is 0; it must be 1 or more"]),
        (["--maker", "synonyms"], ["--table FILE go together"]),
        (["--table", "nowhere.tsv"], ["--table FILE go together"]),
        (["--maker", "synonyms", "--table", "nowhere.tsv"], ["nowhere.tsv", "cannot be read"]),
    ],
)
def test_errors_are_one_sentence_and_exit_1(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("train", *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert len(result.output.strip().splitlines()) == 1
    for words in told:
        assert words in result.output
    assert list(tmp_path.iterdir()) == []


def test_as_a_process_there_is_no_traceback():
    module = [sys.executable, "-m", "xlt_tutorial"]
    wrong = subprocess.run([*module, "train", "--method", "eer"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("Error: Unknown method")
    assert "Traceback" not in wrong.stderr
    unknown = subprocess.run([*module, "demoo"], capture_output=True, text=True, timeout=120)
    assert unknown.returncode == 2
    assert "Did you mean 'demo'" in unknown.stderr


def test_train_leaves_model_result_and_history(home, tmp_path):
    out = tmp_path / "run"
    done = invoke(*tiny(home, "--epochs", 2, "--out", out, "--oracle", "--select", "source"))
    assert done.exit_code == 0, done.output
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    scores = result["scores"]
    assert scores["target_mean"] == scores["accuracy"]["xx"]
    assert scores["mean_gap"] == pytest.approx(scores["accuracy"]["en"] - scores["accuracy"]["xx"])
    assert f"{100 * scores['accuracy']['xx']:.1f}" in done.output
    assert "For comparison only" in done.output and result["oracle"] is not None
    assert len(json.loads((out / "history.json").read_text())) == 2 * 5
    assert result["settings"]["objective"]["pad_to"] == 12
    assert result["settings"]["maker"]["name"] == "neighbours"
    assert (
        result["settings"]["recipe"] | {"epochs": 2, "max_length": 12, "batch_size": 8} == result["settings"]["recipe"]
    )
    assert set(result["gradient_shares"]) == {"ce", "robust", "push", "pull"}
    assert result["versions"]["torch"] and result["peak_memory_mb"] > 100 and result["seconds"]["train"] > 0

    # The folder is an encoder again, the trained one; the head lies beside it.
    assert {"head.weight", "head.bias"} < set(load_file(out / "model.safetensors"))
    task = load_task(home / "animals")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = load_encoder(str(out))
    vectors = sentence_vectors(trained.model, trained.tokenizer, task, layers=[6])
    weights = load_file(out / "model.safetensors")
    for language, answered in scores["accuracy"].items():
        logits = vectors[language][0] @ weights["head.weight"].numpy().T + weights["head.bias"].numpy()
        assert (logits.argmax(1) == np.array(task["test"][language]["label"])).mean() == pytest.approx(answered)

    again = invoke(*tiny(home, "--epochs", 2, "--out", out))
    assert again.exit_code == 1
    assert "--resume" in again.output
    other = invoke(*tiny(home, "--epochs", 3, "--out", out, "--resume"))
    assert other.exit_code == 1
    assert "another" in other.output


@pytest.mark.parametrize(
    "more",
    [
        ["--method", "vanilla"],
        ["--maker", "noise"],
        ["--maker", "synonyms"],
    ],
)
def test_methods_and_makers(home, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    if more[-1] == "synonyms":
        more = [*more, "--table", home / "synonyms.tsv"]
    done = invoke(*tiny(home, *more, "--epochs", 1, "--seed", 3))
    assert done.exit_code == 0, done.output
    method = "vanilla" if "vanilla" in more else "ear"
    settings = json.loads((tmp_path / "runs" / f"animals-{method}-3" / "result.json").read_text())["settings"]
    assert (settings["maker"] or {}).get("name") == (None if method == "vanilla" else more[1])
    assert settings["seed"] == 3
    assert settings["objective"]["streams"] == 2


def test_encoder_whose_vocabulary_cannot_be_trimmed(tmp_path):
    encoder = tiny_run.tiny_encoder()
    encoder.model.save_pretrained(tmp_path / "encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "encoder")
    task = tiny_run.tiny_folder(tmp_path / "task")
    done = invoke("train", "--task", task, "--encoder", tmp_path / "encoder", "--method", "vanilla", "--epochs", 1,
                  "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "result.json").exists()


def test_interrupted_training_goes_on_with_resume(home, tmp_path):
    """SIGINT once a checkpoint is there: exit code 130, a command that works, and no step lost or done twice."""
    out, epochs = tmp_path / "run", 25
    arguments = [str(part) for part in tiny(home, "--epochs", epochs, "--out", out)]
    module = [sys.executable, "-m", "xlt_tutorial"]
    process = subprocess.Popen(
        [*module, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert not (out / "result.json").exists()
    command = told.strip().splitlines()[-1].partition("checkpoint: ")[2]
    assert command == shlex.join(["xlt", *arguments, "--resume"])

    resumed = subprocess.run([*module, *shlex.split(command)[1:]], capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    history = json.loads((out / "history.json").read_text())
    assert [row["step"] for row in history] == list(range(1, 5 * epochs + 1))


def test_interrupted_demo_says_what_is_kept(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupted)
    monkeypatch.setattr(cli, "_command", lambda: "xlt demo --seed 1")
    stopped = invoke("demo", "--out", tmp_path, "--seed", 1)
    assert stopped.exit_code == 130
    assert "xlt demo --seed 1" in stopped.output and str(tmp_path) in stopped.output
