"""Many processes or machines: worker processes here that speak JSON lines, or a Ray cluster."""

from .processes import run_jobs
from .ray_jobs import run_ray_jobs

__all__ = ["run_jobs", "run_ray_jobs"]
