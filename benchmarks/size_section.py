"""Section of the results page on small and huge animals."""

from __future__ import annotations

from typing import Any

from common import IMAGES, number, table

WAYS = ("labels", "single", "all", "auto")


def animal_sizes(result: dict[str, Any] | None) -> list[str]:
    """Errors by size, and two questions about them; see pyramid.py."""
    if result is None:
        return []
    aim, ways = result["aim"], WAYS
    out = ["## Small and huge animals", "", "```bash", "python benchmarks/pyramid.py --data DATA", "```", ""]
    out += [
        f"The same animals, always whole, from a quarter to four times the usual size ({result['frames']} pictures "
        "each), rendered and real, in three ways. *share*: of the picture; its pixels stay, the scene around the "
        "animal becomes wider or narrower. An animal that would not fit fills the picture and is enlarged instead. "
        "*pixels*: the same picture made smaller or larger. *camera*: both, as if the camera had moved away; animals "
        "come nearer as in *share*. *Single* is `predict` as it is, *all* looks at every scale, *auto* is "
        "`--scales auto`, which may choose single; *labelled boxes* is the pose network alone, told where the animal "
        "is. Mean error in sizes of the animal (square root of its box), where a keypoint that is farther off than one "
        "size, or not found, counts as one.",
        "",
        f"**Over sizes**: the error at the worst size over that at the best, in brackets its range (5 to 95 %) over "
        f"draws of the pictures; the aim is {aim:g} at most. Where labelled boxes do not reach it, no choice of scales "
        "can: the animal has too few pixels for the pose network. **At each size**: the error over that of the best "
        "of the single scales (1, or windows, or made smaller), chosen by the labels for that very size, at the size "
        f"where it is largest; the aim is {aim:g}, too. Last, the error over that in labelled boxes, again at the "
        "worst size.",
        "",
    ]
    summary, rows, missed = [], [], []
    for name, subject in result["subjects"].items():
        for i, (kind, found) in enumerate(subject["kinds"].items()):
            over, beside = found["worst_over_best"], found["over_best_scale"]
            summary.append(
                [
                    name if i == 0 else "",
                    kind,
                    *(f"{over[w]['mean']:.2f} ({over[w]['low']:.1f} to {over[w]['high']:.1f})" for w in ways),
                    *(number(beside[w]) for w in ways[1:]),
                    *(number(found["over_labels"][w]) for w in ways[1:]),
                ]
            )
            missed += [
                (w, name, kind, question)
                for w in ("all", "auto")
                for question, value in (("over sizes", over[w]["mean"]), ("at each size", beside[w]))
                if value > aim
            ]
            for j, (size, row) in enumerate(found["sizes"].items()):
                used = ", ".join(f"{s:g}" for s in row["scales"]) or "single"
                rows.append(
                    [
                        name if i == j == 0 else "",
                        kind if j == 0 else "",
                        f"{size}x",
                        f"{100 * row['share']:.0f} %, {row['pixels']:.0f} px",
                        *(f"{1000 * row[w]['error']:.1f} ({1000 * row[w]['median']:.1f})" for w in ways),
                        f"{1000 * row['best']['error']:.1f} ({row['best']['scale']})",
                        used,
                        "/".join(f"{row[w]['ms']:.0f}" for w in ways[1:]),
                    ]
                )
    over_sizes = [f"over sizes: {w}" for w in ("labelled boxes", *ways[1:])]
    at_size = [f"at each size: {w}" for w in ways[1:]]
    out += [
        table(
            ["animal", "size", *over_sizes, *at_size, *(f"over labelled boxes: {w}" for w in ways[1:])],
            summary,
        ),
        "",
    ]
    total = sum(len(s["kinds"]) for s in result["subjects"].values())
    for w in ("all", "auto"):
        for question in ("over sizes", "at each size"):
            beyond = [f"{name} ({kind})" for way, name, kind, q in missed if (way, q) == (w, question)]
            text = f"- {w}, {question}: {'not met' if beyond else 'met'} ({total - len(beyond)} of {total})"
            out.append(text + (f"; beyond it: {', '.join(beyond)}." if beyond else "."))
    spent = mean_ms(result)
    out += [
        "",
        f"*Auto* predicts these {result['frames']} pictures at all scales and takes the fastest scales whose keypoints "
        "lie no farther from those of all scales than those of each single crop do; what goes wrong in one picture of "
        "many is seen only where that one is among those that decide. CPU milliseconds per picture, "
        f"mean over all sizes: single {spent['single']:.0f}, all {spent['all']:.0f}, auto {spent['auto']:.0f}.",
        "",
        "The errors behind it, in thousandths of the animal's size, medians in brackets; how much of the picture the "
        "animal takes up and how long it is; CPU milliseconds per picture of single, all and auto.",
        "",
        table(
            [
                "animal",
                "size",
                "",
                "animal is",
                "labelled boxes",
                *ways[1:],
                "best single scale",
                "auto chose",
                "ms",
            ],
            rows,
        ),
        "",
    ]
    if (IMAGES / "pyramid.png").is_file():
        out += ["![Error by the animal's size](images/pyramid.png)", ""]
    return out


def mean_ms(result: dict[str, Any]) -> dict[str, float]:
    """CPU milliseconds per picture of each way over all sizes; 1x, the same pictures in all kinds, counts once."""
    rows = [
        row
        for subject in result["subjects"].values()
        for kind, found in subject["kinds"].items()
        for size, row in found["sizes"].items()
        if size != "1" or kind == "share"
    ]
    return {w: sum(row[w]["ms"] for row in rows) / len(rows) for w in WAYS[1:]}
