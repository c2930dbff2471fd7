"""Write docs/results.md from the JSON in results/: no figure there is typed by hand.

python benchmarks/write_results_page.py [--check]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from check_sections import bodies, check, cleanup
from common import IMAGES, RESULTS, number, table
from evaluate_minis import accuracy_rows, fit_table, keypoint_rows, trust_table
from finetune_section import official_finetune
from size_section import animal_sizes
from speed_sections import official_speed, precision

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
SCREEN = 'xvfb-run -a -s "-screen 0 1600x1000x24" '


def read(name: str) -> dict[str, Any] | None:
    """A result, None when it was never measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def bash(*commands: str) -> list[str]:
    return ["```bash", *commands, "```", ""]


def met(value: float, aim: float, at_least: bool) -> str:
    """Whether an aim is met, in words."""
    return "met" if (value >= aim if at_least else value <= aim) else "not met"


def where(result: dict[str, Any]) -> str:
    """The machine a result comes from."""
    m = result["machine"]
    text = f"{m['cores']} cores ({m['cpu']}), Python {m['python']}, torch {m['torch']}, PyAV {m['av']}"
    if "napari" in m:
        text += f", napari {m['napari']}"
    load = result.get("load_average")
    return text + (f"; load average {load:g} during the last minute" if load is not None else "")


def accuracy() -> list[str]:
    result = read("evaluation")
    if result is None:
        return []
    out = ["## Accuracy", "", *bash("python benchmarks/evaluate_minis.py --data DATA")]
    out += [
        "Validation rows are animals, sessions or recordings that the model was not trained on (the recipes in "
        "`benchmarks/recipes` say which). *Unseen* datasets come from laboratories and farms that took no part in "
        "training. *Boxes* says where the crop comes from: the labels, or the model's own detector, which is what "
        "`predict` does, or that at the scales that `predict --scales auto` chooses from eight of the pictures. Errors "
        "are in pixels of the original picture; PCK is the share of labelled keypoints within 5 or 10% "
        "of the animal's size (square root of the box's area); a keypoint that was not predicted counts as wrong. "
        "*Calibration error* is the mean gap between likelihood and the share within PCK@0.1.",
        "",
    ]
    header = [
        *("dataset", "role", "boxes", "images", "error px", "PCK@0.05", "PCK@0.1", "mAP"),
        *("likelihood", "calibration error"),
    ]
    for name, model in result["models"].items():
        out += [f"### {name}", "", table(header, accuracy_rows(model)), ""]
        out += ["What likelihood is worth, boxes from the detector:", "", trust_table(model), ""]
        if (IMAGES / f"calibration_{name}.png").is_file():
            out += [f"![Calibration of {name}](images/calibration_{name}.png)", ""]
        out += [
            "The pictures that it was trained on, labelled boxes. A keypoint that is off even there is labelled now "
            "here and now there (or hidden and guessed): what it costs, no training can win.",
            "",
            fit_table(model),
            "",
        ]
        out += ["PCK@0.1 / mean likelihood (labelled keypoints), per keypoint:", ""]
        out += [table(*keypoint_rows(model)), ""]
    return out


def matching() -> list[str]:
    result = read("match_keypoints")
    if result is None:
        return []
    out = ["## Keypoint matching", "", *bash("python benchmarks/match_keypoints.py --data DATA")]
    out += [
        "`superanimal match` with hidden names. *Right*, *wrong* and *missed* are keypoints that have a counterpart "
        "in the model; *invented* are matches of keypoints that have none. *Seen*: the model was trained on this data "
        "set. *Exchanged*: left and right labels were exchanged on a fifth of the animals; how many of them were "
        "found, and how many animals are flagged without that.",
        "",
    ]
    rows = []
    for r in result["rows"]:
        swaps = r["left_right"]
        told = f"{swaps['found']} of {swaps['exchanged']}, {swaps['flagged_before']}" if swaps else "no pairs"
        counts = (r["right"], r["wrong"], r["missed"], r["no_counterpart"], r["matched_without_counterpart"])
        rows.append([r["dataset"], "yes" if r["seen"] else "no", r["animals"], *counts, told])
    header = [
        "data set",
        "seen",
        "animals",
        "right",
        "wrong",
        "missed",
        "without counterpart",
        "invented",
        "exchanged",
    ]
    out += [table(header, rows), ""]
    counts = list(result["rows"][0]["few"])
    out += [
        f"With few animals, drawn at random ({result['seeds']} seeds, means): right / wrong. With three animals "
        "that all face one way, *wrong* is mostly a side where the table says the visible side, else left and right "
        "legs.",
        "",
    ]
    rows = [
        [
            r["dataset"],
            *(f"{number(r['few'][n]['right'], 1)} / {number(r['few'][n]['wrong'], 1)}" for n in counts),
        ]
        for r in result["rows"]
    ]
    return [*out, table(["data set", *(f"{n} animals" for n in counts)], rows), ""]


def backbones() -> list[str]:
    out: list[str] = []
    for path in sorted(RESULTS.glob("backbones_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if not out:
            out = ["## Choice of the backbone", ""]
        recipe = result["recipe"]
        out += bash(
            f"python benchmarks/compare_backbones.py benchmarks/recipes/{recipe}.yaml --data DATA "
            f"--steps {result['steps']} --out benchmarks/results/{path.name}"
        )
        out += [f"`{recipe}`, {result['steps']} steps on the same split:", ""]
        names = [k for k, v in result["rows"][0].items() if isinstance(v, int | float)]
        rows = [[r["backbone"], *(number(r.get(k), 3) for k in names)] for r in result["rows"]]
        out += [table(["backbone", *names], rows), ""]
    return out


def spread(figures: dict[str, Any], name: str, digits: int = 2) -> str:
    """Median over the seeds, and the range in brackets where there is one."""
    if name not in figures:
        return "-"
    f = figures[name]
    text = number(f["median"], digits)
    return (
        text if f["min"] == f["max"] else f"{text} ({number(f['min'], digits)} to {number(f['max'], digits)})"
    )


def masking() -> list[str]:
    result = read("masking")
    if result is None:
        return []
    seeds = len({r["seed"] for r in result["runs"]})
    labs = "; ".join(f"lab {name}: {', '.join(points)}" for name, points in result["labs"].items())
    looks = " ".join(f"'{k}'" for k in result["looks"])
    out = ["## Masking undefined keypoints", ""]
    out += bash(
        f"python benchmarks/masking.py --data DATA --steps {result['steps']} --seeds {seeds} --looks {looks}"
    )
    out += [
        f"The open field data set split in time into two labs that label different keypoints ({labs}), "
        f"{result['training_frames']} frames to learn from, {result['held_out_frames']} held back, {seeds} seeds, "
        f"{result['steps']} steps. Laboratories look different: lab B's pictures have a colour cast (trained without "
        "random light and colour), or are inverted (trained with it, some of it inverts pictures, too, so that the "
        f"network can tell the labs apart less well). Backbone and decoder start from `{result['start']}`, which "
        f"never saw a mouse. Share of keypoints within {result['within_px']:g} px on the held-back frames, of those "
        "that the lab of the frame never labelled and of those that it did; *zero-filled* trains undefined keypoints "
        "as absent.",
        "",
    ]
    rows = [
        [look, arm, spread(f["never labelled"], "pck", 3), spread(f["labelled"], "pck", 3)]
        for look, arms in result["looks"].items()
        for arm, f in arms.items()
    ]
    out += [table(["lab B", "training", "never labelled there", "labelled there"], rows), ""]
    for look, arms in result["looks"].items():
        if len(arms) == 2:
            gain = (
                arms["masked"]["never labelled"]["pck"]["median"]
                - arms["zero-filled"]["never labelled"]["pck"]["median"]
            )
            verdict = met(gain, 0.2, True)
            out += [f"- {look}: masked minus zero-filled {number(gain)}, aim at least 0.2: {verdict}."]
    return [*out, ""]


def replay() -> list[str]:
    result = read("replay")
    if result is None:
        return []
    starts = result["starts"]
    first = next(iter(starts.values()))
    seeds = len({r["seed"] for r in first["runs"] if r["seed"] is not None})
    out = ["## Memory replay", ""]
    out += bash(
        f"python benchmarks/replay.py --data DATA --work WORK --steps {first['steps']} --seeds {seeds} --starts "
        + " ".join(f"'{name}'" for name in starts)
    )
    out += [
        f"Fine-tuned on NOSE, HEAD and TAIL of the open field test ({first['training_images']} images, "
        f"{first['steps']} steps, {seeds} seeds): a model trained on the open field data set and rendered mice "
        "alone (*one lab*), to which this laboratory and HEAD are new"
        + (", and the shipped one, which has learned from it. " if "shipped" in starts else ". ")
        + f"The user's keypoints are measured on the mouse that is left out ({first['test_images']} images), the ears "
        f"on open field frames that no model was trained on ({first['ear_images']} images). *Lost* are keypoints that "
        "are missing or below a confidence of 0.5, per mouse, of two ears. Medians over the seeds, the range in "
        "brackets.",
        "",
    ]
    figures = (
        ("error_px", 2),
        ("new_error_px", 2),
        ("others_error_px", 2),
        ("others_pck", 3),
        ("others_dropped", 3),
    )
    rows = [
        [name, mode, *(spread(f, figure, digits) for figure, digits in figures)]
        for name, each in starts.items()
        for mode, f in each["summary"].items()
    ]
    header = ["start", "", "known keypoints, px", "new ones, px", "ears, px", "ears PCK@0.1", "ears lost"]
    out += [table(header, rows), ""]
    for name, each in starts.items():
        f = each["summary"]
        before, after = (f[m]["others_error_px"]["median"] for m in ("starting model", "replay"))
        out += [
            f"- {name}: ears {after / before - 1:+.0%} (aim at most +10 %: {met(after / before, 1.1, False)})."
        ]
        user, naive = (together(each["runs"], m) for m in ("replay", "naive"))
        out += [
            f"- {name}: the user's keypoints, all of them: {seeds_of(user)} px with replay, {seeds_of(naive)} px under "
            "naive (aim no worse, beyond the spread of naive's seeds: "
            f"{met(statistics.median(user), max(naive), False)})."
        ]
        for figure, which in (("error_px", "those that the model knew"), ("new_error_px", "the new ones")):
            user, naive = (f[m].get(figure, {}).get("median") for m in ("replay", "naive"))
            if user is not None:
                out += [f"  Of these {which} {number(user)} and {number(naive)} px."]
    out += [""]
    for name in starts:
        file = f"replay_forgotten_{name.replace(' ', '_')}.svg"
        if (IMAGES / file).is_file():
            out += [f"![Ears lost by mode, {name}](images/{file})", ""]
    return out


def together(runs: list[dict[str, Any]], mode: str) -> list[float]:
    """Mean error over all of the user's keypoints, px, of every seed."""
    return [statistics.mean(r["per_keypoint"].values()) for r in runs if r["mode"] == mode]


def seeds_of(values: list[float]) -> str:
    """Median and range over seeds, for a sentence."""
    return f"{number(statistics.median(values), 3)} ({number(min(values), 3)} to {number(max(values), 3)})"


def data_efficiency() -> list[str]:
    result = read("data_efficiency")
    if result is None:
        return []
    settings = result["settings"]
    out = ["## How many labels a start from another laboratory saves", ""]
    frames = " ".join(map(str, settings["frames"]))
    out += bash(
        f"python benchmarks/data_efficiency.py --data DATA --work WORK "
        f"--steps {settings['steps']} --baseline-steps {settings['baseline_steps']} "
        f"--seeds {settings['seeds']} --frames {frames}"
    )
    done = min((p["seeds"] for curve in result["curves"].values() for p in curve), default=0)
    out += [
        "A model trained on the open field data set and rendered mice only, then fine-tuned on some frames of the "
        f"open field test for {settings['steps']} steps, against training from scratch on the same frames for "
        f"{settings['baseline_steps']}; {done} seeds, measured on the mouse that is left out "
        f"({result['test_images']} images; {', '.join(result['keypoints'])}). Mean error in px, median over the "
        "seeds, the range in brackets.",
        "",
    ]
    rows = []
    for mode, curve in result["curves"].items():
        at = {p["frames"]: p for p in curve}
        cells = [
            f"{number(at[n]['error_px'])} ({number(at[n]['min'])} to {number(at[n]['max'])})"
            if n in at
            else "-"
            for n in settings["frames"]
        ]
        rows.append([mode, *cells])
    if zero := result["zero_shot"]:
        rows.append(["untrained", number(zero["error_px"]), *[""] * (len(settings["frames"]) - 1)])
    out += [table(["frames", *map(str, settings["frames"])], rows), ""]
    for mode, points in result["saving"].items():
        for p in points:
            more = "more than " if p["at_least"] else ""
            out += [
                f"- {mode} with {p['frames']} frames is as good as scratch with {more}{p['baseline_frames']:.0f}: "
                f"{more}{p['times_fewer']:.1f} times fewer"
            ]
    out += [""]
    if (IMAGES / "data_efficiency.svg").is_file():
        out += ["![Error by number of labelled frames](images/data_efficiency.svg)", ""]
    return out


def speed() -> list[str]:
    result = read("predict_speed")
    if result is None:
        return []
    f = {k: v["median"] for k, v in result["figures"].items()}
    video = result["video"]
    out = ["## Speed of `predict`", "", *bash("python benchmarks/predict_speed.py --data DATA")]
    out += [
        f"`{video['name']}` ({video['frames']} frames of {video['size'][0]}x{video['size'][1]}) with "
        f"`{result['model']}`, {result['rounds']} rounds of {result['frames_per_round']} frames, medians; "
        f"{where(result)}.",
        "",
    ]
    rows = [
        ["end to end, frames per second", number(f["fps"], 1)],
        ["the bare networks on the same batches (forward_fps)", number(f["forward_fps"], 1)],
        ["decoding alone", number(f["decode_fps"], 1)],
        ["CPU per frame: decoding, ms", number(f["decode_cpu_ms"])],
        ["CPU per frame: detector, ms", number(f["detector_cpu_ms"])],
        ["CPU per frame: pose, ms", number(f["pose_cpu_ms"])],
        ["CPU per frame: whole process, ms", number(f["all_cpu_ms"])],
        ["what the cores allow: cores / CPU per frame", number(f["bound_fps"], 1)],
        [f"share of that, aim ≥ 0.80 ({met(f['ratio'], 0.8, True)})", number(f["ratio"])],
        ["cores that other programs used meanwhile", number(f["cores_used_by_others"])],
        ["share of what the other cores allow", number(f["ratio_of_free_cores"])],
    ]
    out += [table(["", "median"], rows), ""]
    if "memory" in result:
        memory = result["memory"]
        rows = [[n, number(p, 0)] for n, p in memory["peak_rss_mb"].items()]
        out += [
            "Peak memory of `superanimal predict` in fresh processes:",
            "",
            table(["frames", "MB"], rows),
            "",
        ]
    return out


def official_networks() -> list[str]:
    result = read("official_speed")
    if result is None:
        return []
    out = ["## SuperAnimal's own networks", "", *bash(result["command"])]
    return [*out, f"On {where(result)}.", "", *official_speed(result)]


def official_finetuning() -> list[str]:
    return official_finetune(read("official_finetune"))


def precisions() -> list[str]:
    result = read("precision")
    if result is None:
        return []
    return ["## Precision", "", *bash(result["command"]), f"On {where(result)}.", "", *precision(result)]


def in_napari() -> list[str]:
    result = read("predict_in_napari")
    if result is None:
        return []
    f = {k: v["median"] for k, v in result["figures"].items()}
    out = [
        "## The same inside napari",
        "",
        *bash(SCREEN + "python benchmarks/predict_in_napari.py --data DATA"),
    ]
    out += [
        f"{result['frames']} frames with `{result['model']}` through the Predict widget of a live viewer, in turn with "
        f"the same run in a fresh process without napari; {result['rounds']} rounds, medians; {where(result)}. "
        "Rendering is software here, and counts: a graphics card takes that part off the cores.",
        "",
    ]
    rows = [
        ["without napari, frames per second", number(f["headless_fps"], 1)],
        ["in napari, frames per second", number(f["napari_fps"], 1)],
        [f"ratio, aim ≥ 0.90 ({met(f['ratio'], 0.9, True)})", number(f["ratio"])],
        ["ratio of CPU per frame", number(f["ratio_of_cpu"])],
        ["times the points on screen were renewed", number(f["napari_updates_shown"], 0)],
        ["one renewal, ms", number(f["napari_update_ms"], 0)],
        ["longest the window did not answer (99%), ms", number(f["napari_gui_gap_ms_99"], 0)],
    ]
    return [*out, table(["", "median"], rows), ""]


def scrubbing() -> list[str]:
    result = read("scrub")
    if result is None:
        return []
    scenes = result["scenes"]
    frames = next(iter(scenes.values()))["frames"]
    out = ["## Scrubbing", "", *bash(SCREEN + "python benchmarks/scrub.py --data DATA")]
    out += [
        f"One step of the slider through {frames} frames, {result['steps_per_scene']} steps per scene, software "
        f"rendering, aim: at most 25 ms more than the video alone; {where(result)}.",
        "",
    ]
    rows = []
    for scene, found in scenes.items():
        for kind in ("walking", "jumping"):
            for shown, t in found[kind].items():
                added = "" if shown == "video only" else met(t["added_to_median"], 25, False)
                row = [scene, kind, shown, number(t["median"], 1), number(t["added_to_median"], 1)]
                rows.append([*row, number(t["cpu_ms_added"], 1), added])
    header = ["poses", "slider", "shown", "median ms", "added ms", "added CPU ms", "aim"]
    return [*out, table(header, rows), ""]


def identity() -> list[str]:
    result = read("identity")
    if result is None:
        return []
    width, height = result["size"]
    out = ["## Identity", "", *bash("python benchmarks/identity.py")]
    out += [
        f"Rendered mice that meet, {width} x {height} px, found by {result['model']}; columns by score and by the "
        "tracker. IDF1 is the share of animals with the right identity, missed ones included; a switch is an animal "
        "that goes on under another name. *Flagged* are switches with a swap risk of 0.5 or more within ten frames. "
        "The tracker was built on clips marked as *seen*; it had no part in choosing the others.",
        "",
    ]
    rows = []
    for case in result["cases"]:
        a, b = case["untracked"], case["tracked"]
        name = f"{case['case']} (seen)" if case["seen"] else case["case"]
        row = [name, case["frames"], number(case["largest_iou"]), case["frames_overlapping"]]
        row += [f"{number(a['idf1'], 3)}, {a['switches']}", f"{number(b['idf1'], 3)}, {b['switches']}"]
        rows.append([*row, case["switches_flagged"], case["frames_at_risk"], b["misses"]])
    header = ["clip", "frames", "largest IoU", "frames with IoU > 0.1", "IDF1, switches by score"]
    header += ["IDF1, switches tracked", "flagged", "frames at risk", "animals missed"]
    return [*out, table(header, rows), "", *identity_real()]


def identity_real() -> list[str]:
    result = read("identity_real")
    if result is None:
        return []
    by_score, tracked = result["untracked"], result["tracked"]
    share = 100 * (1 - tracked["misses"] / tracked["animals"])
    text = (
        f"A real recording, {result['frames']} frames of three mice with another program's tracks "
        f"(`{result['clip']}`): two lie on each other in a dark corner nearly all the time, the third one walks about "
        f"and joins them. {result['model']} finds {share:.0f}% of the animals, the walking one and one or two of the "
        "heap, and cannot tell who is who in it. IDF1 is "
        f"{number(by_score['idf1'], 3)} with {by_score['switches']} switches by score, "
        f"{number(tracked['idf1'], 3)} with {tracked['switches']} tracked, {result['switches_flagged']} of them "
        f"flagged; {result['frames_at_risk']} frames are at risk. Who was who before and after the heap is left to "
        "chance: nothing should be measured per animal there without a look."
    )
    return [*bash("python benchmarks/identity_real.py --data DATA"), text, ""]


def adaptation() -> list[str]:
    result = read("adaptation")
    if result is None:
        return []
    out = ["## Adaptation without labels", "", *bash("python benchmarks/adaptation.py --data DATA")]
    steps = result["settings"]["steps"]
    seeds = {len(found["runs"]) for found in result["clips"].values() if found["expected"] is None}
    count = f"{max(seeds)} seed{'s' * (max(seeds) > 1)}"
    out += [
        f"`superanimal adapt` with {steps} steps and {count} (one where it should be reverted), on held-out frames "
        "of the same video: median, and smallest to largest where seeds differ. *Jitter* is the mean absolute "
        "acceleration, px per frame², of all points; that of *sure points* is of those where the starting model was "
        "sure before. *Dropped* is the share of keypoints below the threshold; *size varies* is the body's size, "
        "standard deviation over mean within bursts; *misplaced* is the share of sure points (each arm's own) that are "
        "out of proportion with the rest of the body. *Exchanged* models call parts of the body by each other's names. "
        "Median filter and Kalman smoother are applied to the starting model's predictions. Labels take no part in "
        "learning; those of the horse and of the rendered mouse take part "
        "in the decision.",
        "",
    ]
    arms = {
        "zero-shot": "before",
        "adapted": "adapted",
        "median": "median filter",
        "kalman": "Kalman smoother",
    }
    columns = (("jitter_px", 2), ("jitter_fixed_px", 2), ("dropped", 2), ("size_variation", 3))
    more = (("odd", 2), ("agreement", 2), ("error_px", 1), ("right", 2))
    rows = []
    for clip, found in result["clips"].items():
        decided = ", ".join(found["summary"]["decisions"])
        for arm, name_ in arms.items():
            idle = arm == "adapted" and not found["runs"][0]["trained"]
            title = "nothing was trained" if idle else name_
            of_arm = found["summary"]["arms"][arm]
            cells = [
                ranged(of_arm[name], digits) if name in of_arm else "-" for name, digits in (*columns, *more)
            ]
            rows.append(
                [clip if arm == "zero-shot" else "", title, *cells, decided if arm == "adapted" else ""]
            )
    header = [
        "clip",
        "predictions",
        "jitter px",
        "of sure points",
        "dropped",
        "size varies",
        "misplaced",
        "agreement",
        "error px",
    ]
    out += [table([*header, "right (0.1)", "decision"], rows), ""]
    aims = []
    for clip, found in result["clips"].items():
        s = found["summary"]["arms"]
        if found["expected"] is None:
            before, after = s["zero-shot"], s["adapted"]
            gone = 1 - after["jitter_px"]["median"] / before["jitter_px"]["median"]
            text = f"{clip}: jitter {-100 * gone:+.0f} % (aim -25 %: {met(gone, 0.25, True)})"
            if before["error_px"]["median"] is not None:
                change = after["error_px"]["median"] / before["error_px"]["median"] - 1
                text += f", error {100 * change:+.0f} % (aim: no loss, {met(change, 0.0, False)})"
        else:
            right = all(d == found["expected"] for d in found["summary"]["decisions"])
            text = (
                f"{clip}: should be {found['expected']}, {'met' if right else 'not met'}; "
                + found["runs"][0]["reasons"][0]
            )
        aims.append(f"- {text}.")
    out += [*aims, ""]
    if (IMAGES / "adaptation_dog.svg").is_file():
        out += ["![Jitter by keypoint on the dog](images/adaptation_dog.svg)", ""]
    return out


def sizes() -> list[str]:
    return animal_sizes(read("pyramid"))


def checking() -> list[str]:
    result = read("check_videos")
    if result is None:
        return []
    head = ["## Will it work on my video?", "", *bash(result["command"]), f"On {where(result)}.", ""]
    return [*head, *check(result)]


def cleaning() -> list[str]:
    result = read("cleanup")
    return [] if result is None else ["## Cleaning up tracks", "", *bash(result["command"]), *cleanup(result)]


def proportions() -> list[str]:
    result = read("proportions")
    head = "## Parts of the body called by others' names"
    return [] if result is None else [head, "", *bash(result["command"]), *bodies(result)]


def ranged(values: dict[str, float | None], digits: int) -> str:
    """A median with its range, a dash where there is nothing."""
    low, high = number(values["min"], digits), number(values["max"], digits)
    middle = number(values["median"], digits)
    return middle if low == high else f"{middle} ({low} to {high})"


def page() -> str:
    """The whole page."""
    parts = [
        "# Results",
        "",
        "What was measured, and the command that measures it again. `DATA` is a folder with the public datasets and "
        "videos; a script leaves out what is not there. This page is written by "
        "`python benchmarks/write_results_page.py` from `benchmarks/results/*.json`.",
        "",
    ]
    for section in (
        accuracy,
        matching,
        masking,
        replay,
        data_efficiency,
        checking,
        adaptation,
        proportions,
        sizes,
        backbones,
        identity,
        cleaning,
        speed,
        official_networks,
        official_finetuning,
        precisions,
        in_napari,
        scrubbing,
    ):
        parts += section()
    return "\n".join(parts).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    arguments = parser.parse_args()
    text = page()
    if arguments.check:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.name} is out of date: run python benchmarks/write_results_page.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
