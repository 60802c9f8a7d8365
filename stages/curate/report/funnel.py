"""The way from what was crawled to what trains, reason by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from curation.page_shell import text_html
from stages.curate.report.findings import Findings

_MOST = 8
_NAMES = {
    "duplicate": "near-duplicate",
    "leak": "leak: like what is evaluated on",
    "no_embedding": "no embedding",
    "over_quota": "over the quota",
    "holdout": "held out to evaluate",
}


@dataclass(frozen=True)
class Step:
    """Images that are left (`lost` is False) or that go at this point, and why."""

    name: str
    count: int
    lost: bool


def funnel(found: Findings) -> list[Step]:
    """Counts from the URLs tried to the training set: every image that came in stays, or goes by one reason."""
    pool = len(found.ids)
    steps = [*_before(found, pool), Step("pool", pool, False)]
    gone: Counter[str] = Counter()
    for role, reason, method in zip(found.roles, found.reasons, found.methods, strict=True):
        if role == "train":
            continue
        name = _NAMES.get(reason, reason.replace("filter:", "filter: "))
        gone[f"{name}: {method}" if reason == "duplicate" and method else name] += 1
    steps += _losses(dict(gone))
    return [*steps, Step("training set", found.roles.count("train"), False)]


def _before(found: Findings, pool: int) -> list[Step]:
    """What was lost before the pool stood; nothing where the crawl's tables are gone."""
    before = found.before
    if not before.fetched:
        return []
    tried = before.fetched + sum(before.failed.values())
    same = before.fetched - sum(before.rejected.values()) - pool
    return [
        Step("URLs and files", tried, False),
        *_losses({f"not fetched: {reason}": n for (reason,), n in before.failed.items()}),
        *_losses({f"rejected: {reason}": n for (reason,), n in before.rejected.items()}),
        *_losses({"the same bytes again": same} if same > 0 else {}),
    ]


def _losses(counts: dict[str, int]) -> list[Step]:
    """Largest first, the smallest summed up where there are many."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[_MOST:])
    shown = [Step(name, count, True) for name, count in ranked[:_MOST]]
    return [*shown, *([Step(f"{len(ranked) - _MOST} more reasons", rest, True)] if rest else [])]


def funnel_html(steps: list[Step]) -> str:
    """The steps as a waterfall: what is left in blue, what goes in red, both to one scale."""
    most = max(step.count for step in steps) or 1
    left = steps[0].count
    lines = []
    for step in steps:
        if not step.lost:
            left = step.count
            blue, red = step.count, 0
        else:
            left -= step.count
            blue, red = max(0, left), step.count
        name, count = text_html(step.name), f"{'−' if step.lost else ''}{step.count:,}"
        kind = "" if step.lost else ' class="stay"'
        bars = (
            f'<i class="{"s0" if step.lost else "blue"}" style="width:{100 * blue / most:.2f}%"></i>'
            f'<i class="red" style="width:{100 * red / most:.2f}%"></i>'
        )
        lines.append(f'<span{kind}>{name}</span><span class="n">{count}</span><div>{bars}</div>')
    return f'<div class="steps">{"".join(lines)}</div>'
