"""The same jobs on a Ray cluster. Jobs and answers are JSON texts; the folders they name must be seen by all nodes.

Ray (Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018) places the work, and tries
a job again whose worker or node died.
"""

import importlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secateur.core import require

from .waiting import Line

Json = dict[str, Any]


def run_ray_jobs(
    target: str,
    jobs: Sequence[Json],
    workers: int,
    done: Callable[[int, Json], None],
    *,
    needs: Sequence[int | None] | None = None,
    attempts: int = 2,
    environment: Mapping[str, str] | None = None,
    gpus: float = 0,
) -> None:
    """Run jobs on a Ray cluster: the one this process is connected to, that `RAY_ADDRESS` names, or a local one.

    Args:
        target: `package.module:function` of text to text, importable on every node.
        jobs: plain data.
        workers: how many jobs run at once at most; a local cluster is started with as many processors.
        done: called with a job's index and its answer, from this thread; `{"error": ...}` when every attempt lost its
            worker or raised.
        needs: for each job the index of the one that must be done before it starts, or None.
        attempts: how often a job whose worker died is tried.
        environment: variables of the workers.
        gpus: that each job takes.

    Raises:
        MissingExtra: Ray is not installed.
    """
    require("ray", extra="scale", where='engine="ray"')
    import ray

    ours = not ray.is_initialized()
    if ours:
        local: Any = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        runtime = {"env_vars": dict(environment or {})}
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=attempts - 1, runtime_env=runtime)(_answer)
        line = Line(needs if needs is not None else [None] * len(jobs))
        running: dict[Any, int] = {}
        while True:
            while len(running) < workers and (index := line.take(wait=False)) is not None:
                running[remote.remote(target, json.dumps(jobs[index]))] = index
            if not running:
                break
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                index = running.pop(reference)
                done(index, _result(ray, reference, attempts))
                line.end(index)
    finally:
        if ours:
            ray.shutdown()


def _result(ray: Any, reference: Any, attempts: int) -> Json:
    try:
        return dict(json.loads(ray.get(reference)))
    except ray.exceptions.WorkerCrashedError:
        return {"error": f"its process ended {attempts} times without an answer"}
    except ray.exceptions.RayError as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[-1]}"}


def _answer(target: str, job: str) -> str:
    module, _, name = target.partition(":")
    return str(getattr(importlib.import_module(module), name)(job))
