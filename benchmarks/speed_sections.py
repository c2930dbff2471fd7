"""The parts of docs/results.md on SuperAnimal's own networks: their speed, and what precision does to keypoints."""

from __future__ import annotations

from typing import Any

from common import number, table


def paragraph(text: str) -> str:
    """Text in one line."""
    return " ".join(text.split())


def official_speed(result: dict[str, Any]) -> list[str]:
    """Ways to run the networks; see official_speed.py."""
    plain, video = result["straightforward"], result["video"]
    runs = plain["fps_of_each_run"]
    intro = f"""
        HRNet-w32 with Faster R-CNN MobileNet, weights from the recipe, one mouse, the first {result["frames"]} frames
        of {video["name"]} ({video["size"][0]} x {video["size"][1]} px), on {result["device"]} with
        {result["workers"]} worker(s). Compared with a straightforward implementation in the same process (decode,
        detect in every frame, one crop at a time, eager float32, {plain["threads"]} torch thread(s)):
        {number(plain["fps"])} frames per second, the median of {len(runs)} runs between the others
        ({number(min(runs))} to {number(max(runs))}). *Pose stage* is crops, normalisation, network and decoding; it is
        compared with the bare network on the same crops. Times are those of the threads that compute; with OpenVINO
        those during which its threads were at work, which is more where other programs run. The detector always
        computes in float32.
    """
    rows = [
        [
            way["way"],
            number(way["fps"]),
            number(way["times_straightforward"], 1),
            number(way.get("forward_fps", float("nan"))),
            number(way["detector_ms"], 0),
            number(way["pose_ms"], 0),
            f"{100 * way['detector_share']:.0f}%",
            number(way["frames_detected"]),
            number(way["bare_pose_ms"], 1),
            f"{100 * way['pose_stage_of_bare']:.1f}%",
            number(way.get("peak_rss_mb", float("nan")), 0),
        ]
        for way in result["ways"]
    ]
    header = [
        "way",
        "fps, end to end",
        "times straightforward",
        "fps, bare networks",
        "detector, ms per frame",
    ]
    header += ["pose stage, ms per frame", "detector's share", "looks of the detector per frame"]
    header += ["bare pose network, ms per crop", "bare / pose stage", "peak memory, MB"]
    outro = """
        Networks with weights from a recipe see nothing: the rows with few looks of the detector tell what that costs
        with the looks they list. How many looks a real animal needs, and what that does to its keypoints, is under
        *Precision*.
    """
    return [paragraph(intro), "", table(header, rows), "", paragraph(outro), ""]


def precision(result: dict[str, Any]) -> list[str]:
    """How far keypoints move; see precision.py."""
    limits = result["limits_px"]
    intro = f"""
        Shipped models on real recordings, and on pictures of animals that they were not trained on. How far
        keypoints lie from those of torch in float32, px: in the same boxes, and with each engine's own boxes.
        *Confident* keypoints have a likelihood of at least the model's threshold in float32; for them the aim is a
        median below {limits["median"]} px and 99% below {limits["p99"]} px. Keypoints that the model itself does
        not believe in jump between places that are equally unlikely.
    """
    rows, looks = [], []
    for clip in result["clips"]:
        between = clip.get("keyframes")
        name = f"detector every {between['every']} frames" if between else ""
        cases = {f"{n}, {k.replace('_', ' ')}": v for n, e in clip["engines"].items() for k, v in e.items()}
        for case, found in (cases | {name: between} if between else cases).items():
            sure, everything = found["confident"], found["all"]
            good = sure["median_px"] < limits["median"] and sure["p99_px"] < limits["p99"]
            row = [clip["video"], case, sure["keypoints"]]
            row += [number(sure[k], 3) for k in ("median_px", "p99_px", "largest_px")]
            row += ["" if case == name else "met" if good else "not met"]
            rows.append([*row, number(everything["median_px"], 3), number(everything["p99_px"], 1)])
        if not between:
            continue
        text = f"""
            {clip["video"]} ({clip["model"]}, {clip["frames"]} frames, boxes of {clip["box_size_px"]:.0f} px): with
            `--detect-every {between["every"]}` the detector looked at {100 * between["detector_share"]:.0f}% of the
            frames.
        """
        looks += [paragraph(text), ""]
    header = [
        "recording",
        "way",
        "confident keypoints",
        "median",
        "99%",
        "largest",
        "aim",
        "all: median",
        "all: 99%",
    ]
    return [paragraph(intro), "", table(header, rows), "", *looks]
