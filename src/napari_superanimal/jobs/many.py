"""Many inputs on several processes or machines, one task each; Dask hands them out."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.inference.cores import cores, limit_cores
from napari_superanimal.jobs.cluster import client_of, plan_of
from napari_superanimal.jobs.cluster_file import RESOURCE
from napari_superanimal.jobs.inputs import Source, gather, refuse_doubles
from napari_superanimal.jobs.plain_json import plain
from napari_superanimal.jobs.predict import PredictResult, predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions, ready_networks
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What became of an input that could not be done, and of one that was not begun before the run was cancelled.
FAILED, NOT_BEGUN = "failed", "not begun"
#: Seconds between two reports of a worker, after which it also asks whether it shall stop.
_EVERY_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes
    ----------
    input : Path
    status : {"complete", "cancelled", "failed", "not begun"}
    predictions : Path or None
        The h5 file, if there is one.
    card : dict
        The run card; empty if there is none.
    error : str
        Of a failed one: one line with the file and what to do.
    """

    input: Path
    status: str
    predictions: Path | None = None
    card: dict[str, Any] | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row of the summary."""
        card = self.card or {}
        return {
            "input": str(self.input),
            "status": self.status,
            "frames": card.get("frames", 0),
            "fps": card.get("fps"),
            "output": None if self.predictions is None else str(self.predictions),
            "error": self.error or None,
        }


def outcome_of(result: PredictResult) -> Outcome:
    """The outcome of a source that was predicted, at least in part."""
    return Outcome(result.source.path, result.status, result.predictions, result.card)


def predict_many(
    paths: Iterable[Path],
    options: PredictOptions,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: ProgressCallback | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    token: CancelToken | None = None,
) -> list[Outcome]:
    """Predict poses on many inputs at the same time.

    Every input is a task of its own that does what `predict_files` does, with the same files and the same way to go
    on after an interruption. What fails does not concern the others.

    Parameters
    ----------
    paths : iterable of Path
        All machines must know the files under the same paths.
    options : PredictOptions
    workers : int, optional
        Processes on this computer, which share its cores; not with `scheduler`.
    scheduler : str, optional
        Address of a Dask scheduler that runs already, the file that it wrote its address to, or a file (``.yaml``)
        that says which cluster to start, see `cluster_file.read_cluster_file`.
    on_progress : callable, optional
        Gets frames of the input that the message names, from a thread of its own.
    on_outcome : callable, optional
        Called as soon as an input is done or has failed.
    token : CancelToken, optional

    Returns
    -------
    list of Outcome
        One per input, in their order.

    Raises
    ------
    UserError
        If something is wrong that concerns all of them: paths, model, cluster.
    """
    token = token or CancelToken()
    # what is wrong with it is said before anything is fetched
    needs = {} if plan_of(scheduler) is None else {RESOURCE: 1}
    sources = gather([path.absolute() for path in paths])
    refuse_doubles([(s.path.name, (options.out or s.folder).absolute() / s.name) for s in sources])
    options = _for_workers(options, on_progress, token)
    outcomes = [Outcome(source.path, NOT_BEGUN) for source in sources]
    with client_of(workers, scheduler, len(sources), token=token, on_progress=on_progress) as client:
        from distributed import Event

        topic = f"superanimal-{uuid.uuid4().hex}"
        stop = Event(f"{topic}-stop", client=client)
        if on_progress is not None:
            client.subscribe_topic(topic, lambda event: on_progress(Progress(**event[1])))
        share = None if workers is None else max(1, cores() // workers)
        waiting = {
            client.submit(
                _task,
                [str(p) for p in s.images or (s.path,)],
                options,
                topic,
                share,
                pure=False,
                resources=needs,
            ): i
            for i, s in enumerate(sources)
        }
        told = False
        while waiting:
            if token.cancelled and not told:
                stop.set()
                told = True
            finished = [future for future in waiting if future.done()]
            for future in finished:
                i = waiting.pop(future)
                outcomes[i] = _outcome(sources[i], future)
                if on_outcome is not None:
                    on_outcome(outcomes[i])
            if not finished:
                time.sleep(0.05)
    return outcomes


def _for_workers(
    options: PredictOptions, on_progress: ProgressCallback | None, token: CancelToken
) -> PredictOptions:
    """The options with everything that can be wrong looked at and fetched once, paths as other processes need them."""
    ready_networks(options, on_progress, token)

    def absolute(named: str | Path) -> str | Path:
        return str(Path(named).absolute()) if Path(named).exists() else named

    return replace(
        options,
        model=absolute(options.model),
        detector=absolute(options.detector),
        out=None if options.out is None else options.out.absolute(),
        # beside other work that says nothing
        measure_forward=False,
    )


def _outcome(source: Source, future: Any) -> Outcome:
    """What a finished task says of a source, or what its end says where it could not say anything."""
    if future.status == "finished":
        answer = future.result()
        predictions = answer["predictions"]
        return Outcome(
            source.path,
            answer["status"],
            None if predictions is None else Path(predictions),
            answer["card"],
            answer["error"],
        )
    error = future.exception() if future.status == "error" else None
    if type(error).__name__ == "KilledWorker" or error is None:
        problem = "the process that worked on it ended without a word, perhaps for lack of memory or of time"
        remedy = "use fewer --workers or larger jobs, and go on with --resume"
    else:
        problem = f"its worker failed ({type(error).__name__}: {error})"
        remedy = "see that all workers have the same version of napari-superanimal and see the same files"
    return Outcome(source.path, FAILED, error=str(UserError(problem, path=source.path, remedy=remedy)))


def _task(files: list[str], options: PredictOptions, topic: str, share: int | None) -> dict[str, Any]:
    """Predict one input, in a worker; everything that comes back is small and plain."""
    import torch
    from distributed import Event, get_worker

    worker, stop, token = get_worker(), Event(f"{topic}-stop"), CancelToken()
    limit_cores(share or worker.state.nthreads)
    torch.set_num_threads(1)
    paths = [Path(file) for file in files]
    last = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _EVERY_S and progress.done < progress.total:
            return
        last = now
        worker.log_event(topic, plain(asdict(progress)) | {"eta_s": progress.eta_s})
        if stop.is_set():
            token.cancel()

    def answer(status: str, result: PredictResult | None = None, error: str = "") -> dict[str, Any]:
        return {
            "status": status,
            "predictions": str(result.predictions) if result and result.predictions.exists() else None,
            "card": plain(result.card) if result else None,
            "error": error,
        }

    if stop.is_set():
        return answer(NOT_BEGUN)
    try:
        results = predict_files(paths, options, on_progress=on_progress, token=token)
    except UserError as error:
        return answer(FAILED, error=str(error))
    except Cancelled:
        return answer(NOT_BEGUN)
    except MemoryError:
        return answer(
            FAILED, error=f"{paths[0]}: not enough memory; use fewer --workers or a smaller --batch-size"
        )
    except Exception as error:
        fault = f"{type(error).__name__}: {error}; this is a fault of superanimal, please report it"
        return answer(FAILED, error=f"{paths[0]}: {fault}")
    return answer(results[0].status, results[0]) if results else answer(NOT_BEGUN)
