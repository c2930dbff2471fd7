"""`superanimal train` and `finetune`: recipe, data sets, progress for programs, stopping, resuming."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.cli import main
from napari_superanimal.commands.finetune import table_of
from napari_superanimal.keypoints.many import saved_table_path
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model, verify
from napari_superanimal.poses import make_poses
from napari_superanimal.training.config import read_config

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_recipe_makes_a_model_folder(tiny: Path, labels: Path) -> None:
    model = find_model(tiny)
    verify(model)
    assert model.card.name == "tiny"
    assert model.card.trained_on[0]["name"] == "rendered"
    assert model.card.trained_on[0]["images"] == 20  # four are held out
    loaded = load_model(model)
    assert loaded.space.name == "superanimal_topviewmouse"
    assert loaded.detector is not None
    assert model.card.recipe["pose"]["loop"]["steps"] == 6


def test_data_sets_named_on_the_command_line(labels: Path, tmp_path: Path) -> None:
    table = tmp_path / "few.csv"
    table.write_text("source,keypoint\nnose,nose\ntail_base,tail_base\n", encoding="utf-8")
    out, report = tmp_path / "my model", tmp_path / "report.json"
    words = [
        "--space",
        "superanimal_topviewmouse",
        "--backbone",
        "test_resnet",
        "--steps",
        2,
        "--no-detector",
    ]
    assert run("train", f"{labels}={table}", *words, "--out", out, "--seed", 7, "--json", report) == 0
    card = find_model(out).card
    assert set(card.keypoints) == {"nose", "tail_base"}
    assert card.recipe["pose"]["loop"]["seed"] == 7
    assert card.pose["overview"] > 0
    assert card.detector == {}
    assert json.loads(report.read_text())["model"] == "my-model"


def test_a_backbone_from_published_weights(labels: Path, tmp_path: Path) -> None:
    import timm
    import torch

    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), tmp_path / "resnet10t.pth")
    words = ["--space", "superanimal_topviewmouse", "--backbone", "resnet10t", "--steps", 1, "--no-detector"]
    words += ["--pretrained", tmp_path / "resnet10t.pth"]
    assert run("train", labels, *words, "--out", tmp_path / "model") == 0
    card = find_model(tmp_path / "model").card
    assert card.trained_on[-1]["name"] == "resnet10t.pth: the backbone's start"
    # nobody else's machine has that folder
    assert card.recipe["pose"]["pretrained"]["file"] == "resnet10t.pth"
    assert 0 < card.recipe["pose"]["loop"]["backbone_rate"] < 1


def test_steps_scale_the_detector_too(labels: Path) -> None:
    from napari_superanimal.commands.train import with_steps

    config = with_steps(read_config(labels.parent / "recipe.yaml"), 60)
    assert config.pose.loop.steps == 60
    assert config.detector is not None
    assert config.detector.loop.steps == 40


@pytest.mark.parametrize("case", ["nothing", "both", "no space", "no data", "bad recipe", "finished"])
def test_train_mistakes_are_one_line(
    case: str, labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = labels.parent / "recipe.yaml"
    out = tmp_path / "out"
    if case == "nothing":
        words: list[object] = []
    elif case == "both":
        words = [labels, "--config", recipe]
    elif case == "no space":
        words = [labels, "--backbone", "test_resnet"]
    elif case == "no data":
        words = [tmp_path / "absent", "--backbone", "test_resnet", "--space", "superanimal_topviewmouse"]
    elif case == "bad recipe":
        (tmp_path / "bad.yaml").write_text("name: x\nspace: [", encoding="utf-8")
        words = ["--config", tmp_path / "bad.yaml"]
    else:
        words, out = ["--config", recipe], tiny
    before = {path: path.stat().st_mtime_ns for path in tiny.iterdir()}
    assert run("train", *words, "--out", out) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert {path: path.stat().st_mtime_ns for path in tiny.iterdir()} == before


@pytest.mark.parametrize("mode", ["scratch", "backbone", "naive", "replay"])
def test_finetune_modes(mode: str, labels: Path, tiny: Path, tmp_path: Path) -> None:
    out, report = tmp_path / mode, tmp_path / "report.json"
    words = [labels, "--model", tiny, "--mode", mode, "--out", out, "--steps", 3, "--json", report]
    assert run("finetune", *words) == 0
    assert find_model(out).card.parent == "tiny"
    result = json.loads(report.read_text())
    assert (result["parent"], result["mode"], result["folder"]) == ("tiny", mode, str(out))
    # a finished model is not replaced
    assert run("finetune", *words) == 2


def test_a_program_follows_stops_and_resumes_a_finetuning(labels: Path, tiny: Path, tmp_path: Path) -> None:
    out, stop = tmp_path / "model", tmp_path / "stop"
    words = ["finetune", labels, "--model", tiny, "--mode", "naive", "--out", out, "--steps", 40]
    command = [
        sys.executable,
        "-m",
        "napari_superanimal.cli",
        *words,
        "--progress-lines",
        "--stop-file",
        stop,
    ]
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        steps = []
        for line in process.stdout:
            progress = json.loads(line)
            assert progress.keys() == {"done", "total", "rate", "eta_s", "message", "values"}
            steps.append(progress["done"])
            if progress["done"] == 3:
                stop.touch()
        errors = process.stderr.read() if process.stderr else ""
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert max(steps) < 40
    assert not (out / "card.json").exists()
    assert list(out.glob("*checkpoint*"))

    # a forgotten stop file is said, not obeyed
    assert run(*words, "--resume", "--stop-file", stop) == 2
    resumed = subprocess.run(
        [*map(str, command[:-2]), "--resume"], capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    first = [json.loads(line)["values"].get("step") for line in resumed.stdout.splitlines()]
    assert min(step for step in first if step) == max(steps) + 1
    assert find_model(out).card.parent == "tiny"


def test_finetune_without_images_is_one_line(
    labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "labels.json"
    alone.write_bytes(labels.read_bytes())
    assert run("finetune", alone, "--model", tiny, "--mode", "naive", "--out", tmp_path / "out") == 2
    assert "can be found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_sets_of_any_size_are_drawn_equally_often(labels: Path) -> None:
    from napari_superanimal.commands.train import with_accumulation
    from napari_superanimal.training.sampling import balance_datasets

    config = read_config(labels.parent / "recipe.yaml")
    drawn = replace(config.datasets[0], name="drawn", path="", validation="", rendered=60)
    config = replace(config, datasets=(*config.datasets, drawn))
    real, rendered = balance_datasets(config, labels.parent).datasets
    assert 20 * real.weight == pytest.approx(60 * rendered.weight)
    assert with_accumulation(config, 3).pose.loop.accumulate == 3


def test_replay_keeps_the_model_s_keypoints_and_tells(
    labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("source,keypoint\nnose,nose\ntail_base,tail_base\n", encoding="utf-8")
    out, report = tmp_path / "mine", tmp_path / "report.json"
    words = [labels, "--model", tiny, "--table", few, "--out", out, "--steps", 2, "--json", report]
    more = ["--replay-threshold", 0.6, "--accumulate", 2, "--batch-size", 2, "--balance", "--keep-detector"]
    assert run("finetune", *words, "--mode", "replay", *more) == 0
    card = find_model(out).card
    assert set(find_model(tiny).card.keypoints) <= set(card.keypoints)
    assert card.recipe["replay"]["threshold"] == 0.6
    assert (card.recipe["accumulate"], card.recipe["balance"]) == (2, True)
    assert "0.6" in card.summary
    result = json.loads(report.read_text())
    assert result["keypoints"] == list(card.keypoints)
    assert "memory replay: " in capsys.readouterr().out
    assert (out / "table.csv").is_file()


def test_modes_are_compared(
    labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "comparison", tmp_path / "report.json"
    words = [labels, "--model", tiny, "--compare", "--out", out, "--steps", 1, "--seeds", 1, "--json", report]
    assert run("finetune", *words, "--modes", "replay", "scratch", "--test", "match:img02") == 0
    found = json.loads(report.read_text())
    assert found["test_images"] == 4
    assert [r["mode"] for r in found["runs"]] == ["starting model", "replay", "scratch"]
    assert "replay" in capsys.readouterr().out
    assert run("finetune", *words) == 2, "a result is not overwritten"
    assert "--resume" in capsys.readouterr().err


def test_the_few_shot_curve(labels: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    words = [
        "few-shot",
        labels,
        "--model",
        tiny,
        "--out",
        out,
        "--steps",
        1,
        "--seeds",
        1,
        "--modes",
        "naive",
    ]
    assert run("benchmark", *words, "--shares", 0.1, 1) == 0
    found = json.loads((out / "few_shot.json").read_text())
    assert [p["frames"] for p in found["curves"]["naive"]] == [2, 17]
    assert (out / "few_shot.svg").is_file()
    assert run("benchmark", *words, "--frames", 1000, "--resume") == 2
    assert run("benchmark", *words, "--shares", 2) == 2


def test_two_processes_finetune_as_one(labels: Path, tiny: Path, tmp_path: Path) -> None:
    """The command under torchrun: one model, one report, the same loss curve."""
    curves = []
    for processes in (1, 2):
        out = tmp_path / f"by-{processes}"
        launcher = [sys.executable, "-m"]
        if processes > 1:
            launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        words = [
            "napari_superanimal.cli",
            "finetune",
            labels,
            "--model",
            tiny,
            "--mode",
            "replay",
            "--out",
            out,
        ]
        words += [
            "--steps",
            3,
            "--keep-detector",
            "--progress-lines",
            "--json",
            tmp_path / f"{processes}.json",
        ]
        done = subprocess.run([*launcher, *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        curves.append([line["values"]["loss"] for line in told if "loss" in line["values"]])
        assert find_model(out).card.name == f"by-{processes}"
        assert json.loads((tmp_path / f"{processes}.json").read_text())["status"] == "complete"
    assert len(curves[0]) == 3
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_a_table_saved_with_the_data_set_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before what the names suggest, after what was asked for."""
    poses = make_poses(("snout", "p2"), np.zeros((1, 2, 2)))
    args = Namespace(table=None, dataset=tmp_path / "labels.json", progress_lines=False)
    model = find_model("mouse-topview-mini")
    saved = saved_table_path(args.dataset, "superanimal_topviewmouse")
    saved.write_text("source,keypoint\nsnout,tail_base\np2,nose\n")
    table = table_of(args, poses, model)
    assert table is not None
    assert [table.target(k) for k in poses.keypoints] == ["tail_base", "nose"]
    assert "saved with the data set" in capsys.readouterr().err
    other = tmp_path / "other.csv"
    other.write_text("source,keypoint\nsnout,nose\n")
    args.table = str(other)
    given = table_of(args, poses, model)
    assert given is not None
    assert given.target("snout") == "nose"
