"""``superanimal models``: what models there are and where they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import (
    ProgressLine,
    add_shared_options,
    cancellable,
    hint,
    new_command,
)
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    import argparse

    from napari_superanimal.models.zoo import ModelRef


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "models", run, "list, show, verify, import and export models")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
        add_shared_options(made, again=True)
        return made

    action("list", "one line per model that can be used here")
    show = action("show", "a model's card: training data, keypoints, licence, limits, measured errors")
    show.add_argument("name", metavar="NAME", help="a model's name or folder")
    fetch = action("fetch", "download the weights of one of SuperAnimal's own models")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument(
        "--revision",
        metavar="COMMIT",
        help="of the repository (default: the one the weights here came from, else the newest)",
    )
    fetch.add_argument("--overwrite", action="store_true", help="take weights with another checksum too")
    verify = action("verify", "compare weights with the checksums in their cards")
    verify.add_argument("name", metavar="NAME", nargs="?", help="all models when absent")
    importing = action(
        "import", "add models to the list: folders, exported bundles, snapshots of SuperAnimal"
    )
    importing.add_argument(
        "files",
        metavar="FILE|NAME:FILE",
        nargs="+",
        help="a model folder (written by train or finetune), the .zip that export wrote, or a snapshot of one of "
        "SuperAnimal's models (.pt, .safetensors), with the model's name before it where the file has another",
    )
    importing.add_argument("--overwrite", action="store_true", help="replace a model of the same name")
    export = action(
        "export", "write a model, with its detector, as one .zip that `models import` reads elsewhere"
    )
    export.add_argument("name", metavar="NAME")
    export.add_argument("file", metavar="FILE", type=Path)
    export.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do the action."""
    return {"action": args.action, **_ACTIONS[args.action](args)}


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.models.zoo import list_detectors, list_models

    models, detectors = list_models(), list_detectors()
    width = max(len(reference.card.name) for reference in (*models, *detectors))
    for reference in models:
        print(f"{reference.card.name:<{width}}  {reference.card.title}{_state(reference)}")
    print("\ndetectors (for --detector):")
    for reference in detectors:
        print(f"{reference.card.name:<{width}}  {reference.card.title}{_state(reference)}")
    return {"models": [_entry(r) for r in models], "detectors": [_entry(r) for r in detectors]}


def _state(reference: ModelRef) -> str:
    """What a list says about one of SuperAnimal's own models."""
    if not reference.official:
        return ""
    licence = "research only" if "research" in reference.card.licence else "BSD-3-Clause"
    return f" [{licence}; {'here' if reference.here else 'not yet fetched'}]"


def _entry(reference: ModelRef) -> dict[str, Any]:
    return {**reference.card.to_json(), "here": reference.here, "folder": str(reference.folder)}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.models.zoo import find_model

    reference = find_model(args.name)
    print(reference.card.markdown())
    if reference.here:
        print(f"\nFolder: {reference.folder}")
    else:
        print(f"\nNot on this computer yet: superanimal models fetch {reference.card.name}")
    return {"model": reference.card.to_json(), "folder": reference.folder}


def _fetch(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.models.zoo import find_model

    reference = find_model(args.name)
    again = args.overwrite or args.revision
    if not reference.official or (reference.here and not again):
        print(f"{reference.card.name} is here already and needs no download: {reference.folder}")
        return {"model": reference.card.name, "folder": reference.folder, "downloaded": False}

    from napari_superanimal.models.official.hub import fetch

    hint(f"licence of the weights: {reference.card.licence}")
    with cancellable() as token, ProgressLine("MB") as line:
        fetched = fetch(
            reference, revision=args.revision, overwrite=args.overwrite, on_progress=line, token=token
        )
    print(f"fetched {fetched.card.name} into {fetched.folder}")
    return {"model": fetched.card.name, "folder": fetched.folder, "downloaded": True, **fetched.card.source}


def _verify(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.jobs.model_files import verify_model
    from napari_superanimal.models.zoo import find_model, list_detectors, list_models

    everything = [r for r in (*list_models(), *list_detectors()) if r.here]
    references = [find_model(args.name)] if args.name else everything
    reports = {}
    if not references[0].here:
        raise UserError(
            f"the weights of {args.name} are not on this computer",
            remedy=f"get them first: superanimal models fetch {args.name}",
        )
    for reference in references:
        report = verify_model(reference)
        reports[reference.card.name] = report
        for file, state in report.items():
            print(f"{reference.card.name}/{file}: {state}")
    bad = [f"{name}/{file}" for name, files in reports.items() for file, s in files.items() if s != "ok"]
    if bad:
        raise UserError(
            f"damaged or missing: {', '.join(bad)}",
            remedy="reinstall napari-superanimal, or import the model again",
        )
    return {"models": reports}


def _import(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.jobs.model_files import import_any

    imported = []
    for file in args.files:
        for reference in import_any(file, overwrite=args.overwrite):
            print(f"imported {reference.card.name} into {reference.folder}")
            if reference.official:
                hint(f"licence of the weights: {reference.card.licence}")
            imported.append({"model": reference.card.name, "folder": reference.folder})
    return {"imported": imported}


def _export(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.jobs.model_files import bundle, export_model
    from napari_superanimal.models.zoo import find_model

    model = find_model(args.name)
    written = export_model(model, args.file, overwrite=args.overwrite)
    names = [each.card.name for each in bundle(model)]
    sys.stdout.write(f"wrote {' and '.join(names)} into {written}\n")
    return {"model": args.name, "file": written, "holds": names}


_ACTIONS = {
    "list": _list,
    "show": _show,
    "fetch": _fetch,
    "verify": _verify,
    "import": _import,
    "export": _export,
}
