"""``superanimal demo``: the whole main job on a rendered clip, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import ProgressLine, cancellable, hint, new_command, positive

if TYPE_CHECKING:
    import argparse

    from napari import Viewer

    from napari_superanimal.jobs.demo import DemoResult

_DESCRIPTION = """\
Render a clip of a mouse whose true pose is known, predict it with a shipped model (no network needed),
say how large the error is, and open everything in napari.

The clip, its truth, the predictions (h5) with their run card, an annotated video and a contact sheet are
written to --out."""

_FOLDER = "superanimal-demo"
_MODEL = "mouse-topview-mini"


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "demo", run, "the whole job on a rendered clip, offline", _DESCRIPTION)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder of the results (default: a new folder {_FOLDER})"
    )
    parser.add_argument("--no-view", action="store_true", help="do not open napari")
    parser.add_argument(
        "--frames", type=positive, default=150, metavar="N", help="length of the clip (default 150)"
    )
    parser.add_argument(
        "--mice", type=positive, default=1, metavar="N", help="animals in the clip (default 1)"
    )
    parser.add_argument("--model", default=_MODEL, metavar="NAME|FOLDER", help="another model to try")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo in --out")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run the demo, then show it."""
    from napari_superanimal.jobs.demo import run_demo

    out = args.out or _new_folder()
    with cancellable() as token, ProgressLine("frames") as line:
        result = run_demo(
            out,
            n_frames=args.frames,
            n_mice=args.mice,
            model=args.model,
            device=args.device,
            seed=args.seed or 0,
            overwrite=args.overwrite,
            on_progress=line,
            token=token,
        )
    print(describe(result))
    if not args.no_view:
        _view(result)
    return {
        "folder": result.folder,
        "files": [result.clip, result.truth_file, result.sheet, *result.prediction.files],
        "run_card": result.prediction.card,
        **result.report,
    }


def _new_folder() -> Path:
    """A folder in the current one that does not exist yet."""
    folder, number = Path(_FOLDER), 2
    while folder.exists():
        folder, number = Path(f"{_FOLDER}-{number}"), number + 1
    return folder


def describe(result: DemoResult) -> str:
    """The result for a person."""
    card, report = result.prediction.card, result.report
    pck = {float(k): v for k, v in report["pck"].items()}
    lines = [
        f"{card['frames']} frames predicted with {card['model']} at {card['fps']:.1f} frames per second",
        f"measured error: {report['mean_error_px']:.2f} px mean, {report['median_error_px']:.2f} px median; "
        f"{100 * pck[0.1]:.0f}% of the keypoints within a tenth of the animal's size",
        "  by keypoint: "
        + ", ".join(
            f"{name} {values['mean_error_px']:.1f}"
            for name, values in report["per_keypoint"].items()
            if values["mean_error_px"] is not None
        ),
        f"written to {result.folder.resolve()}:",
    ]
    files = [
        (result.clip, "the clip"),
        (result.truth_file, "its true poses"),
        (result.prediction.predictions, "the predictions (DeepLabCut's layout)"),
        (result.prediction.files[-1], "their run card"),
        (result.prediction.files[-2], "the clip with the predictions drawn in"),
        (result.sheet, "some of its frames"),
    ]
    width = max(len(path.name) for path, _ in files)
    return "\n".join([*lines, *(f"  {path.name:<{width}}  {what}" for path, what in files)])


def _view(result: DemoResult) -> None:
    """Open napari with the result, or say why not."""
    from napari_superanimal.jobs.doctor import window_problem

    if problem := window_problem():
        hint(f"napari is not opened: {problem[0]}; {problem[1]}")
        return
    import napari

    show(result, napari.Viewer(title="napari-superanimal demo"))
    napari.run()


def show(result: DemoResult, viewer: Viewer) -> None:
    """Add the clip, the predictions, and the truth as hidden layers."""
    from napari.layers import Layer

    from napari_superanimal.plugin.layers import poses_to_layers

    viewer.open(str(result.clip), plugin="napari-superanimal")
    layers = [
        *poses_to_layers(result.predicted, name=result.prediction.predictions.stem, video=result.clip),
        *poses_to_layers(result.truth, name="true poses", video=result.clip, visible=False),
    ]
    for data, attributes, kind in layers:
        viewer.add_layer(Layer.create(data, attributes, kind))
