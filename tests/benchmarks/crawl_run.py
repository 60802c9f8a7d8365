"""Runs the crawl stage alone on a list of loopback URLs: crawl_run.py LIST OUT PARAMS (JSON; `ray` for Ray).

Writes OUT/run.json with the peak memory of the process and the seconds that the stage itself took.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from stages.base import StageContext
from stages.crawl import Crawl, CrawlParams
from stages.in_process import InProcess


def main(listing: str, out: Path, params: dict) -> None:
    on_ray = params.pop("ray", False)
    checked = CrawlParams(
        **{"sources": [listing], "allow_hosts": ["127.0.0.0/8"], "timeout_s": 30, "read_timeout_s": 30, **params}
    )
    out.mkdir(parents=True)
    if on_ray:
        import ray

        from pipelines.executors.ray_compute import RayCompute

        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
        compute = RayCompute(out / "scratch")
    else:
        compute = InProcess()
    start = time.perf_counter()
    Crawl(checked).run(StageContext(checked, out, {}, compute))
    figures = {
        "stage_s": round(time.perf_counter() - start, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    (out / "run.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
