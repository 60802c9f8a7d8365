"""The MLflow mirror of runs. The store is the truth; MLflow shows it.

Everything here that the driver calls is light: MLflow itself is imported only in the mirror's own process.
"""

from pipelines.tracking.address import IMPATIENT, registry_uri, run_url, tracking_uri, ui_command, ui_environment
from pipelines.tracking.launch import (
    await_registration,
    deliver_pending,
    pending_runs,
    read_registration,
    run_link,
    start_mirror,
)

__all__ = [
    "IMPATIENT",
    "await_registration",
    "deliver_pending",
    "pending_runs",
    "read_registration",
    "registry_uri",
    "run_link",
    "run_url",
    "start_mirror",
    "tracking_uri",
    "ui_command",
    "ui_environment",
]
