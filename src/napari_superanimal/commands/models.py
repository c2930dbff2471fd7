"""``superanimal models``: what models there are and where they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import add_shared_options, hint, new_command
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    import argparse


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
    fetch = action("fetch", "get a model's weights")
    fetch.add_argument("name", metavar="NAME")
    verify = action("verify", "compare weights with the checksums in their cards")
    verify.add_argument("name", metavar="NAME", nargs="?", help="all models when absent")
    importing = action("import", "add model folders (written by train, finetune or export) to the list")
    importing.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a model folder or its .zip")
    importing.add_argument("--overwrite", action="store_true", help="replace a model of the same name")
    export = action("export", "write a model as one .zip that `models import` reads elsewhere")
    export.add_argument("name", metavar="NAME")
    export.add_argument("file", metavar="FILE", type=Path)
    export.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do the action."""
    return {"action": args.action, **_ACTIONS[args.action](args)}


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.models.zoo import list_models

    cards = [reference.card for reference in list_models()]
    width = max((len(card.name) for card in cards), default=0)
    for card in cards:
        print(f"{card.name:<{width}}  {card.title}")
    if not cards:
        hint("no models found; `superanimal doctor` says where they are looked for")
    return {"models": [card.to_json() for card in cards]}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.models.zoo import find_model

    reference = find_model(args.name)
    print(reference.card.markdown())
    print(f"\nFolder: {reference.folder}")
    return {"model": reference.card.to_json(), "folder": reference.folder}


def _fetch(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.models.zoo import find_model

    reference = find_model(args.name)
    print(f"{reference.card.name} is here already and needs no download: {reference.folder}")
    return {"model": reference.card.name, "folder": reference.folder, "downloaded": False}


def _verify(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.jobs.model_files import verify_model
    from napari_superanimal.models.zoo import find_model, list_models

    references = [find_model(args.name)] if args.name else list_models()
    reports = {}
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
        reference = import_any(file, overwrite=args.overwrite)
        print(f"imported {reference.card.name} into {reference.folder}")
        imported.append({"model": reference.card.name, "folder": reference.folder})
    return {"imported": imported}


def _export(args: argparse.Namespace) -> dict[str, Any]:
    from napari_superanimal.jobs.model_files import export_model
    from napari_superanimal.models.zoo import find_model

    written = export_model(find_model(args.name), args.file, overwrite=args.overwrite)
    sys.stdout.write(f"wrote {written}\n")
    return {"model": args.name, "file": written}


_ACTIONS = {
    "list": _list,
    "show": _show,
    "fetch": _fetch,
    "verify": _verify,
    "import": _import,
    "export": _export,
}
