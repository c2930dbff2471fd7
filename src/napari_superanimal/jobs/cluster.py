"""A Dask client: of processes on this computer, of a scheduler that runs already, of jobs in a queue."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.cluster_file import ClusterFile, is_cluster_file, read_cluster_file, submitted
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that the first worker may take to come: on this computer, and of a scheduler that runs already.
_HERE_S, _THERE_S = 120, 60
#: Seconds between two looks whether a worker has come.
_EVERY_S = 0.2


def plan_of(scheduler: str | None) -> ClusterFile | None:
    """The cluster to start, if `scheduler` is a file that says so.

    Raises
    ------
    UserError
        If it is one and is wrong.
    """
    return read_cluster_file(Path(scheduler)) if scheduler and is_cluster_file(scheduler) else None


@contextlib.contextmanager
def client_of(
    workers: int | None,
    scheduler: str | None,
    tasks: int,
    *,
    token: CancelToken,
    on_progress: ProgressCallback | None = None,
) -> Iterator[Any]:
    """A client with at least one worker; what was started for it ends with it.

    Parameters
    ----------
    workers : int, optional
        Processes on this computer, where `scheduler` is not given.
    scheduler : str, optional
        An address, the file that a scheduler wrote its address to, or a file that `read_cluster_file` reads.
    tasks : int
        No more workers are asked for.
    token : CancelToken
        Ends the wait for the first worker.

    Raises
    ------
    UserError
        If Dask is missing, nobody answers, or no worker comes.
    Cancelled
        If the user did not want to wait any longer.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise UserError(
            "--workers and --scheduler need Dask's distributed, which is not installed",
            remedy='pip install "napari-superanimal[cluster]"',
        ) from error
    plan = plan_of(scheduler)
    own = plan is not None or scheduler is None
    settings = {
        "distributed.comm.timeouts.connect": f"{_HERE_S}s" if own else "10s",
        "distributed.scheduler.allowed-failures": 0,
        "distributed.admin.log-format": "%(message)s",
    }
    for name in ("distributed", "dask_jobqueue", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as open_, dask.config.set(settings):
        cluster = None
        if own:
            with _deaf_to_ctrl_c():
                cluster = _local(workers, tasks) if plan is None else plan.start(tasks)
            open_.enter_context(cluster)
            client = open_.enter_context(Client(cluster))
        else:
            where = (
                {"scheduler_file": scheduler} if Path(scheduler or "").is_file() else {"address": scheduler}
            )
            try:
                client = open_.enter_context(Client(**where, timeout="10s"))
            except (OSError, ValueError, TypeError) as error:
                raise UserError(
                    f"no Dask scheduler answers at {scheduler}",
                    remedy="start one with `dask scheduler`, or check the address",
                ) from error
        _wait(client, cluster, plan, token=token, on_progress=on_progress)
        yield client


def _local(workers: int | None, tasks: int) -> Any:
    """Worker processes on this computer."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=max(1, min(workers or 1, tasks)),
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )


def _wait(
    client: Any,
    cluster: Any,
    plan: ClusterFile | None,
    *,
    token: CancelToken,
    on_progress: ProgressCallback | None,
) -> None:
    """Until the first worker is there. In a queue that may be tomorrow."""
    patience = float(_THERE_S if cluster is None else _HERE_S)
    if plan is not None:
        patience = float("inf") if plan.wait_minutes is None else 60 * plan.wait_minutes
    began = time.monotonic()
    while not client.scheduler_info()["workers"]:
        if token.cancelled:
            raise Cancelled
        if plan is not None:
            submitted(cluster, plan.path)
        if time.monotonic() - began > patience:
            if plan is None:
                raise UserError(
                    "the scheduler has no workers",
                    remedy="start some with `dask worker`, or look at its log",
                )
            raise UserError(
                f"no job had started after {plan.wait_minutes:g} minutes",
                path=plan.path,
                remedy="look at the queue and at the jobs' logs, or raise `wait_minutes`",
            )
        if on_progress is not None:
            on_progress(Progress(0, 0, message="waiting for the first worker"))
        time.sleep(_EVERY_S)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile do not hear Ctrl-C themselves: they are told to stop, and keep what they have."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
