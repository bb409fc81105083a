"""Built-in tasks and small models, for the quickstart, claims and tests."""

from .builtin import builtin_model, builtin_models, builtin_name, builtin_task, builtin_tasks

__all__ = ["builtin_model", "builtin_models", "builtin_name", "builtin_task", "builtin_tasks"]
