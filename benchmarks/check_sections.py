"""The parts of docs/results.md on `superanimal check`, on cleaning up tracks, and on proportions of bodies."""

from __future__ import annotations

from typing import Any

from common import number, table
from speed_sections import paragraph

#: Longest that a check may take.
LIMIT_S = 60.0


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def check(result: dict[str, Any]) -> list[str]:
    """What check says, how long that takes, and what followed; see check_videos.py."""
    videos = result["videos"]
    rows = []
    for name, r in videos.items():
        for i, (model, m) in enumerate(ranked(r)):
            of_model = r.get("measured", {}).get(model, {})
            true = (
                f"{percent(of_model['right'])} ({percent(of_model['right_of_found'])})" if of_model else "-"
            )
            time = "" if i else f"{r['seconds']:.1f} s"
            rows.append(["" if i else name, time, f"{i + 1}. {model}", percent(m["expected_right"]), true])
    slowest = max(r["seconds"] for r in videos.values())
    labels = "; ".join(f"{name}: {r['labels']}" for name, r in videos.items() if r.get("labels"))
    intro = f"""
        `superanimal check` on {len(videos)} public videos, {max(r["frames"] for r in videos.values())} frames
        each at most, all installed models side by side. *Expected right* is the share of the model's keypoints
        that check expects within a tenth of the animal's size; *measured* is that share where there are labels
        ({labels}), boxes from the model's own detector, on up to six bursts of 24 frames; what was not found counts
        as wrong, and is left out in brackets.
    """
    header = ["video", "time", "ranking", "expected right", "measured right"]
    verdict = "met" if slowest < LIMIT_S else "not met"
    aim = f"- the slowest check took {slowest:.1f} s (aim under {LIMIT_S:g} s: {verdict})."
    return [paragraph(intro), "", table(header, rows), "", aim, "", *advice(videos)]


def ranked(r: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Models of a video, the most promising first."""
    return sorted(r["models"].items(), key=lambda item: -item[1]["expected_right"])


def advice(videos: dict[str, Any]) -> list[str]:
    """Every piece of advice, and what came of following it."""
    out = []
    rows: list[list[str]] = []
    for name, r in videos.items():
        for n, f in enumerate(r.get("followed", [])):
            rows.append(
                [
                    "" if n else name,
                    f"{f['model']}: {f['text']}. **{f['step']}**",
                    f["did"] or f"not followed: {f['why_not']}",
                    figures(f.get("before")),
                    figures(f.get("after")),
                    f["paid"],
                ]
            )
    if not rows:
        return out
    intro = """
        What check advised, read aloud, and what happened when it was followed: all advice for the best model, the first
        piece for the others. Figures are of the same frames before and after: keypoints right and mean error on labels
        where there are any (where more animals are predicted than there are, labels choose the best of them); else the
        share of keypoints above the model's threshold (*sure*), jitter (mean absolute acceleration in sizes of the
        body), and frames with an animal. Adapting sees no labels here, and reverts where it cannot prove itself; the
        figures are those of the adapted model all the same. *Helped* is yes where more keypoints are right, or, without
        labels, where none of the three got worse and one got better; for the number of animals, where it is nearer to
        the truth.
    """
    header = ["video", "finding and advice", "what was done", "before", "after", "helped"]
    told = [f["paid"] for r in videos.values() for f in r.get("followed", []) if f["paid"]]
    counts = ", ".join(f"{told.count(word)} {word}" for word in dict.fromkeys(sorted(told, reverse=True)))
    return [
        paragraph(intro),
        "",
        table(header, rows),
        "",
        f"- of {len(told)} that could be judged: {counts}.",
        "",
    ]


def figures(found: dict[str, Any] | None) -> str:
    """The figures of one state in one cell."""
    if not found:
        return ""
    parts = []
    if found.get("right") is not None:
        parts.append(f"{percent(found['right'])} right, {number(found['error_px'], 1)} px")
    if found.get("sure") is not None:
        parts.append(f"{percent(found['sure'])} sure, jitter {number(found['jitter'], 3)}")
        parts.append(
            f"{number(found['animals_per_frame'], 1)} animals per frame, in {percent(found['frames_with_an_animal'])}"
        )
    return "; ".join(parts)


def cleanup(result: dict[str, Any]) -> list[str]:
    """Swaps, outliers and smoothing on spoilt truth; see cleanup.py."""
    d = result["detection"]

    def row(title: str, key: str, as_percent: bool = True) -> list[str]:
        f = d[key]
        cells = [percent(f[k]) if as_percent else number(f[k]) for k in ("mean", "min", "max")]
        return [title, *cells]

    intro = f"""
        True keypoints of rendered mice, spoilt with noise of {percent(result["noise_body_lengths"])} of the
        body's length, exchanged left and right points and stray points, then given to `find_problems` and
        `clean`. Points are *wrong* if they are more than a tenth of the body away from the truth.
    """
    rows = [
        row("exchanged points that were found", "swap_recall"),
        row("points called exchanged that are", "swap_precision"),
        row("stray points that were found", "outlier_recall"),
        row("points called stray that are", "outlier_precision"),
        [
            "points accused on tracks with noise only",
            *(f"{100 * d['accused_cells_of_a_clean_track'][k]:.3f} %" for k in ("mean", "min", "max")),
        ],
        ["wrong points before", *(f"{100 * d['wrong_before'][k]:.1f} %" for k in ("mean", "min", "max"))],
        ["wrong points after", *(f"{100 * d['wrong_after'][k]:.1f} %" for k in ("mean", "min", "max"))],
        row("mean error before, px", "error_px_before", False),
        row("mean error after, px", "error_px_after", False),
        ["frames per second", *(number(d["frames_per_second"][k], 0) for k in ("mean", "min", "max"))],
    ]
    out = [paragraph(intro), "", table(["", "mean", "lowest", "highest"], rows), ""]
    out += [
        "Smoothing, on the noise alone and after such a clean-up (error and jitter in px; last the truth):",
        "",
    ]
    kinds = result["smoothing"]
    header = ["method"]
    for kind in kinds:
        header += [f"{kind}: error", "jitter"]
    names = list(next(iter(kinds.values())))
    rows = [
        [
            name,
            *(
                cell
                for kind in kinds.values()
                for cell in (number(kind[name]["error_px"]), number(kind[name]["jitter_px"]))
            ),
        ]
        for name in names
    ]
    truth = [number(kind["none"]["jitter_of_the_truth_px"]) for kind in kinds.values()]
    rows.append(["the truth", *(cell for jitter in truth for cell in ("0.00", jitter))])
    out += [table(header, rows), ""]
    if "predicted" in result:
        out += ["What the shipped model sees in rendered frames, which it knows well:", ""]
        rows = [
            [name, number(f["error_px"]), f"{100 * f['wrong']:.1f} %", number(f["jitter_px"])]
            for name, f in result["predicted"].items()
        ]
        out += [table(["", "error px", "wrong", "jitter px"], rows), ""]
    return out


def bodies(result: dict[str, Any]) -> list[str]:
    """Whether proportions tell right from wrong; see proportions.py."""
    limits = result["limits"]
    intro = f"""
        Keypoints that do not fit the rest of their body, by the proportions in the model's card (*odd*: most of their
        pairs are {limits["point"]:g} times farther off than is usual), of those that could be judged, and the pair of
        keypoints that is farthest off to each other: median over the bodies, where 1 is what 98 % of the training
        animals keep to. Adaptation does not learn where a pair exceeds {limits["pair"]:g}, or more than
        {percent(limits["all"])} of all points are odd (*found*). Labels of held-out animals and of data sets that the
        models have never seen should not be; nor what the models are sure of from
        every side on {result["frames"]} frames of three clips, as it is. Then two names were exchanged there, on both
        sides of the body. The rule was made while looking at these clips; other ones may do worse.
    """

    def cells(f: dict[str, Any]) -> list[str]:
        worst = f"{f['worst']}: {number(f['worst_off'])}" if f["worst"] else ""
        return [str(f["judged"]), percent(f["odd"]), worst, "yes" if f["found"] else "no"]

    rows = [
        [name, {"validation": "held-out animals", "unseen": "never seen"}[f["role"]], *cells(f)]
        for name, f in result["labels"].items()
    ]
    for name, each in result["clips"].items():
        for n, (what, f) in enumerate(each.items()):
            rows.append(
                [f"clip: {name}" if n == 0 else "", what if n == 0 else f"{what} exchanged", *cells(f)]
            )
    header = ["bodies", "", "points judged", "odd", "worst pair", "found"]
    tried = [
        f["found"] for each in result["clips"].values() for what, f in each.items() if what != "as it is"
    ]
    right = [
        f["found"] for each in result["clips"].values() for what, f in each.items() if what == "as it is"
    ]
    told = f"- {sum(tried)} of {len(tried)} exchanges were found; {sum(right)} of {len(right)} clips as they are."
    return [paragraph(intro), "", table(header, rows), "", told, *_turning(result.get("rendered")), ""]


def _turning(f: dict[str, Any] | None) -> list[str]:
    """Rendered mice, which bend more than any other animal here."""
    if f is None:
        return []

    def share(name: str) -> str:
        return f"{100 * f[name]:.1f} %"

    return [
        f"- True points of {f['clips']} rendered mice, {f['frames']} frames each: in {share('turned_share')} of them "
        f"the head is turned by more than a right angle, and {share('beyond_pair_limit_of_turned')} of the pairs are "
        f"beyond the limit of pairs, all of a body at once. Points called odd: {share('odd_of_turned')} of those, "
        f"{share('odd')} of all; at most {share('short_most_odd')} in any {f['short_frames']} frames in a row (a "
        f"quarter, before a single body had a limit of its own). The farthest pair has {f['worst_off']:.1f}. Pairs "
        f"were found wrong in {share('short_wrong_pairs')} of such short parts, and in {share('clips_wrong_pairs')} of "
        "the whole clips.",
    ]
