"""What a run is: spec, planner, store, executors, run records, events, the MLflow mirror and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.api import Options, Pipeline, Run, open_run, plan, submit

__all__ = ["Options", "Pipeline", "Run", "open_run", "plan", "submit"]


def __getattr__(name: str) -> Any:
    """Load the API on first use, so that importing one module of the package does not load all of it."""
    if name in __all__:
        from pipelines import api

        return getattr(api, name)
    raise AttributeError(f"module 'pipelines' has no attribute '{name}'")
