"""The MLflow mirror of runs. The store is the truth; MLflow shows it.

Everything here that the driver calls is light: MLflow itself is imported only in the mirror's own process.
"""

from pipelines.tracking.address import IMPATIENT, registry_uri, run_url, tracking_uri, ui_command, ui_environment
from pipelines.tracking.launch import (
    await_registration,
    deliver_pending,
    moved_remark,
    pending_runs,
    read_registration,
    registered_here,
    run_link,
    start_mirror,
    unreachable_reason,
)
from pipelines.tracking.redaction import public_address

__all__ = [
    "IMPATIENT",
    "await_registration",
    "deliver_pending",
    "moved_remark",
    "pending_runs",
    "public_address",
    "read_registration",
    "registered_here",
    "registry_uri",
    "run_link",
    "run_url",
    "start_mirror",
    "tracking_uri",
    "ui_command",
    "ui_environment",
    "unreachable_reason",
]
