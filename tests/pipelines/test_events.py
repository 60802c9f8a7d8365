"""The event log survives torn lines and concurrent writers; its fold is the run's state."""

from __future__ import annotations

import threading
from pathlib import Path

from pipelines.events import EventLog
from pipelines.runs import RunState, StageState


def test_a_torn_line_is_skipped_and_an_unfinished_one_is_left(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("note", "a", text="one")
    with log.path.open("a") as file:
        file.write('{"kind": "no\n')
    log.append("note", "a", text="two")
    with log.path.open("a") as file:
        file.write('{"kind": "note"')
    events = list(log.read())
    assert [e["text"] for _, e in events] == ["one", "two"]
    with log.path.open("a") as file:
        file.write(', "text": "three"}\n')
    assert [e["text"] for _, e in log.read(events[-1][0])] == ["three"]


def test_writers_do_not_tear_each_other(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    writers = [
        threading.Thread(target=lambda n=n: [log.append("note", str(n), text="x" * 500) for _ in range(50)])
        for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(log.read())) == 200


def test_the_fold_of_events() -> None:
    state = RunState("running", {"a": StageState("a", "toy"), "b": StageState("b", "toy")})
    finished = {"key": "k", "digest": "d", "seconds": 1.5, "rows_in": 3, "rows_out": 2, "summary": "", "metrics": {}}
    for event in (
        {"kind": "run_started", "stage": None},
        {"kind": "stage_started", "stage": "a", "key": "k"},
        {"kind": "progress", "stage": "a", "done": 1, "total": 3, "unit": "images", "live": {}},
        {"kind": "stage_finished", "stage": "a", "action": "run", **finished},
        {"kind": "stage_failed", "stage": "b", "error": "no"},
        {"kind": "unheard_of", "stage": "b"},
        {"kind": "run_finished", "stage": None, "status": "failed"},
    ):
        state.apply(event)
    assert (state.status, state.stages["a"].state, state.stages["b"].state) == ("failed", "done", "failed")
    assert (state.stages["a"].rows_out, state.stages["b"].error) == (2, "no")
