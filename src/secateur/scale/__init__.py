"""Many processes or machines. Today: worker processes on this machine that speak JSON lines."""

from .processes import run_jobs

__all__ = ["run_jobs"]
