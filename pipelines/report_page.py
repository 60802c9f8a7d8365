"""A run as one HTML file that can be sent to somebody: its picture, and what every stage has to show."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from curation.page_shell import filled_page, page_part, text_html
from pipelines.display import rows_text
from pipelines.picture import pipeline_svg
from pipelines.report_files import ReportFile, file_html, report_files
from pipelines.run_lines import StageLine, stage_lines
from pipelines.runs import RunRecord, RunState
from stages.artifact import Artifact

LIMIT = 30_000_000
"""Bytes that a page may take, about: what mail servers let through."""

_SHARE = 0.97


def report_page(record: RunRecord, state: RunState, limit: int = LIMIT) -> str:
    """The page; nothing in it is fetched from elsewhere, and no script runs but in the stages' own pages.

    Those stand in sandboxed frames. Files that would make the page larger than `limit` bytes are named and left out,
    the largest first.
    """
    lines = stage_lines(record, state)
    artifacts = {line.name: _artifact(record, line) for line in lines}
    files = {name: report_files(found.path / "report") if found else [] for name, found in artifacts.items()}
    kept = _within(files, int(limit * _SHARE))
    head = record.head()
    told = f"{head['pipeline']}, {head['created'][:16].replace('T', ' ')} UTC, {state.status}"
    told += f"; goes on from {head['parent']}" if head["parent"] else ""
    picture = pipeline_svg(record.id, state.status, lines)
    sections = [f'<section id="stages"><h2>Stages</h2>{picture}</section>']
    sections += [_stage(line, artifacts[line.name], files[line.name], kept) for line in lines]
    spec = text_html(json.dumps(record.spec_document(), indent=1))
    sections.append(
        '<section id="spec"><h2>Spec</h2><details><summary>spec.yaml as JSON</summary>'
        f"<div><pre>{spec}</pre></div></details></section>"
    )
    names = ["stages", *(line.name for line in lines), "spec"]
    return filled_page(
        record.id,
        lead=f'<p class="soft">{text_html(told)}</p>',
        nav="".join(f'<a href="#{_anchor(name)}">{text_html(name)}</a>' for name in names),
        body="\n".join(sections),
        style=page_part("pipelines", "report.css"),
    )


def _artifact(record: RunRecord, line: StageLine) -> Artifact | None:
    return record.store.find(line.type, line.state.key).artifact if line.state.key else None


def _within(files: Mapping[str, Sequence[ReportFile]], budget: int) -> set[ReportFile]:
    """The files that fit, the smallest first; of equal ones the earlier stage's."""
    kept = set()
    for file in sorted((file for found in files.values() for file in found), key=lambda file: file.embedded):
        if file.embedded > budget:
            break
        budget -= file.embedded
        kept.add(file)
    return kept


def _stage(line: StageLine, artifact: Artifact | None, files: Sequence[ReportFile], kept: set[ReportFile]) -> str:
    state = line.state
    rows = rows_text(state.rows_in, state.rows_out)
    facts = [line.action, f"{state.seconds:,.1f} s" if line.action == "run" else "", f"rows {rows}" if rows else ""]
    facts += [f"{line.type}/{state.key[:16]}" if state.key else ""]
    parts = [f'<section id="{_anchor(line.name)}"><h2>{text_html(line.name)}</h2>']
    parts.append(f'<p class="soft">{text_html(", ".join(filter(None, facts)))}<br>{text_html(line.why)}</p>')
    parts += [f"<p>{text_html(text)}</p>" for text in (state.summary, *state.notes) if text]
    if state.error:
        parts.append(f'<p class="bad">{text_html(state.error)}</p>')
    if artifact is not None:
        parts.append(_facts("parameters", artifact.manifest.get("params", {})))
        parts.append(_facts("figures", artifact.manifest.get("metrics", {})))
    parts += [file_html(file) for file in files if file in kept]
    left = [f"{file.name} ({file.path.stat().st_size / 1e6:.1f} MB)" for file in files if file not in kept]
    if left:
        parts.append(f'<p class="soft">Left out of this page for its size: {text_html(", ".join(left))}.</p>')
    return "\n".join([*parts, "</section>"])


def _facts(title: str, values: Mapping[str, Any]) -> str:
    """A folded table of parameters or figures."""
    if not values:
        return ""
    rows = "".join(f"<tr><td>{text_html(name)}</td><td>{_value(value)}</td></tr>" for name, value in values.items())
    summary = f"<summary>{title} ({len(values)})</summary>"
    return f'<details>{summary}<div class="wide"><table>{rows}</table></div></details>'


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
    return text_html(text)


def _anchor(name: str) -> str:
    return re.sub(r"[^\w-]", "_", name)
