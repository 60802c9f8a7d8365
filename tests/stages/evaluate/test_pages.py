"""The pages of an evaluation, from features whose neighbours, mistakes and maps are known."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.evaluate.evaluated import Evaluated, TokenSamples
from stages.evaluate.neighbours import neighbours_page
from stages.evaluate.pages import write_pages
from stages.evaluate.pages.classes import class_interval, classes_section
from stages.evaluate.pages.contestants import interval_words
from stages.evaluate.pages.figures_page import figures_page
from stages.evaluate.pages.label_free import label_free_section
from stages.evaluate.pages.layers import layers_section
from stages.evaluate.pages.mistakes import mistakes_page
from stages.evaluate.pages.patches import patches_page
from stages.evaluate.pages.probes import labels_section, probes_section
from stages.evaluate.pages.shifts import shifts_section
from stages.evaluate.split import Split
from tests.browser import browser, drawn, opened  # noqa: F401
from tests.stages.pool import emoji_bytes, write_images_artifact
from training.evaluation.accuracy import class_accuracy, confusion_matrix
from training.evaluation.probe import predict
from training.evaluation.protocol import PROTOCOLS

CLASSES = ["birds & <b>bees</b>", "cars", "dots"]
PER_CLASS = 24
GRID = (5, 5)


def features_of(labels: np.ndarray, spread: float, seed: int) -> np.ndarray:
    """Class means with noise around them."""
    generator = np.random.default_rng(seed)
    return (np.eye(3, 8)[labels] + spread * generator.normal(size=(len(labels), 8))).astype(np.float32)


def samples_of(ids: list[str]) -> TokenSamples:
    """Pictures whose middle patch differs from the others, is attended to, and is too long in the first picture."""
    n, generator = len(ids), np.random.default_rng(1)
    patches = generator.normal(0, 0.05, (n, *GRID, 6)).astype(np.float32)
    patches[..., 0] += 1
    patches[:, 2, 2] += np.array([-2, 2, 0, 0, 0, 0], np.float32)
    attention = np.full((n, 3, *GRID), 0.01, np.float32)
    attention[:, :, 2, 2] = 1 - 0.24
    norms = generator.normal(10, 0.2, (n, *GRID)).astype(np.float32)
    norms[0, 2, 2] = 90
    pixels = generator.integers(0, 255, (n, 40, 40, 3)).astype(np.uint8)
    return TokenSamples(ids, pixels, patches, patches[..., ::-1].copy(), attention, norms)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    items = [(name, CLASSES[n % 3], data) for n, (name, _, data) in enumerate(emoji_bytes(3 * PER_CLASS))]
    images = write_images_artifact(tmp_path_factory.mktemp("images"), items)
    table = images.table(["image_id", "label"])
    rows = sorted(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    bank, queries = rows[::2], rows[1::2]
    sides = [([i for i, _ in side], [CLASSES.index(label) for _, label in side]) for side in (bank, queries)]
    split = Split(*sides[0], *sides[1], CLASSES)
    labels = np.array([*split.bank_labels, *split.query_labels])
    features = {
        name: features_of(labels, spread, n)
        for n, (name, spread) in enumerate({"trained": 0.35, "untrained": 0.8, "pixels": 1.5}.items())
    }
    count, protocol, truth = len(split.bank), PROTOCOLS["curatrain-v2"], np.array(split.query_labels)
    predictions = {
        name: predict(x[:count], labels[:count], x[count:], truth, protocol, k_grid=(5,), seed=0)
        for name, x in features.items()
    }
    metrics = {"chance": 0.4, "rankme_trained": 3.0, "rankme_untrained": 5.5}
    classes: list[dict[str, Any]] = [
        {"name": name, "bank": split.bank_labels.count(c), "queries": split.query_labels.count(c)}
        for c, name in enumerate(CLASSES)
    ]
    for name, found in predictions.items():
        for probe, said in (("knn", found.knn), ("linear", found.linear)):
            right = float((said == truth).mean())
            metrics |= {f"{probe}_{name}": right, f"{probe}_{name}_lo": right - 0.1, f"{probe}_{name}_hi": right + 0.1}
            for row, share in zip(classes, class_accuracy(truth, said, 3), strict=True):
                row[f"{probe}_{name}"] = float(share)
    record = {
        "protocol": {"id": "curatrain-v2"},
        "metrics": metrics,
        "classes": classes,
        "confusion": {
            probe: confusion_matrix(truth, getattr(predictions["trained"], probe), 3).tolist()
            for probe in ("knn", "linear")
        },
    }
    return Evaluated(images, split, features, predictions, record, samples_of(split.queries[:6]), 0)


def test_pages_are_single_files_that_need_nothing(evaluated: Evaluated, tmp_path: Any) -> None:
    write_pages(tmp_path, evaluated)
    pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(pages) == ["figures.html", "mistakes.html", "neighbours.html", "patches.html"]
    for name, page in pages.items():
        assert len(page) < 2_000_000
        assert "http" not in page
        assert not re.search(r'(src|href)="(?!data:)', page)
        assert "<b>bees" not in page
        assert name == "patches.html" or html.escape(CLASSES[0], quote=True) in page


def test_without_labels_what_needs_them_is_absent(evaluated: Evaluated, tmp_path: Any) -> None:
    split = Split(evaluated.split.bank, [], [], [], [], note="The pool has no labels")
    metrics = {"rankme_trained": 3.0, "rankme_untrained": 5.5}
    record = {"protocol": {"id": "curatrain-v2"}, "metrics": metrics, "classes": []}
    features = {name: x[: len(split.bank)] for name, x in evaluated.features.items()}
    bare = replace(evaluated, split=split, features=features, predictions={}, record=record, samples=None)
    write_pages(tmp_path, bare)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.html", "neighbours.html"]
    page = (tmp_path / "figures.html").read_text()
    assert "The pool has no labels" in page and "RankMe" in page and 'id="probes"' not in page
    neighbours = (tmp_path / "neighbours.html").read_text()
    assert "✗" not in neighbours and neighbours.count('class="query"') == len(split.bank) // 2


def test_neighbours_tell_what_training_did(evaluated: Evaluated) -> None:
    split, features = evaluated.split, evaluated.features
    page = neighbours_page(evaluated.images, split, features, 0)
    rows = sum(min(12, split.query_labels.count(c)) for c in range(3))
    assert page.count('class="query"') == rows > 30
    assert page.count("<figure") == rows * (1 + 6 + 6)
    marks = page.split("<main>")[1]
    assert marks.count("✓") + marks.count("✗") == 3 * rows * 12  # in title, alternative text and caption
    shares = [float(share) for share in re.findall(r"<td[^>]*>(\d\.\d{3})</td>", page)]
    assert shares[0] > shares[1] + 0.2
    better, worse = (page.index(f'id="{name}"') for name in ("better", "worse"))
    assert better < worse
    swapped = neighbours_page(
        evaluated.images, split, {"trained": features["untrained"], "untrained": features["trained"]}, 0
    )
    counts = [p.split('id="worse"')[0].count('class="query"') for p in (page, swapped)]
    assert counts[0] > counts[1]


def test_mistakes_show_every_wrong_answer_once_and_count_what_changed(evaluated: Evaluated) -> None:
    page = mistakes_page(evaluated)
    truth = np.array(evaluated.split.query_labels)
    said, before = (evaluated.predictions[name].linear for name in ("trained", "untrained"))
    wrong = said != truth
    assert f"wrong on {wrong.sum()} of {len(truth)} held-out" in page
    hardest = page.split('id="hardest"')[1].split('id="changed"')[0]
    assert hardest.count("<figure") == wrong.sum()
    first = evaluated.predictions["trained"].probabilities[np.arange(len(truth)), truth].argmin()
    assert hardest.split("<figcaption>")[1].startswith(
        f"{evaluated.predictions['trained'].probabilities[first].max():.2f}"
    )
    lost, won = (int(x.sum()) for x in (wrong & (before == truth), ~wrong & (before != truth)))
    assert page.split('id="changed"')[1].count("<figure") == lost + won
    cells = re.findall(r'<td title="[^"]+ / [^"]+: [\d.e-]+" style', page)
    full = sum(int((np.array(matrix) > 0).sum()) for matrix in evaluated.record["confusion"].values())
    assert len(cells) == full


def test_patches_show_attention_components_outliers_and_matches(evaluated: Evaluated) -> None:
    samples = evaluated.samples
    assert samples is not None
    page = patches_page(evaluated, samples)
    maps, heads = page.split('id="maps"')[1].split('id="heads"')
    assert maps.count("<figure") == 6 * 5
    heads, objects = heads.split('id="objects"')
    assert heads.count("<figure") == 6 * (1 + 3)
    found = re.findall(
        r'<rect x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"[^>]+stroke-width="2.5"', objects
    )
    assert found == [("0.4", "0.4", "0.2", "0.2")] * 6  # the patch that differs
    dark = re.search(r'<path d="([^"]+)" fill="#0b0e14"', maps)
    assert dark is not None and dark[1].count("M") == 6  # all rows but the middle one whole, that one in two parts
    assert maps.count("#ff2a2a") == 1
    matches = page.split('id="matches"')[1].split('id="lengths"')[0]
    pairs = matches.count('class="row"')
    assert matches.count("<line ") == pairs * 2 * 9 and pairs >= 3
    bare = patches_page(evaluated, replace(samples, attention=None))
    assert "attention" not in bare.split("<body>")[1] and bare.count("<figure") < page.count("<figure")


def test_figures_are_written_with_their_intervals(evaluated: Evaluated) -> None:
    page = figures_page(evaluated)
    assert "images/s" not in page
    costs = {"features_seconds": 3.0, "features_images_per_s": 99.0, "features_memory": 2.0**20}
    assert "99 images/s" in figures_page(evaluated, costs | {"figures_seconds": 1.0, "figures_cpu_seconds": 1.0})
    for section in ("probes", "classes", "reliability", "label-free"):
        assert f'<section id="{section}">' in page
    assert interval_words({"a": 0.5, "a_lo": -0.25, "a_hi": 1.0}, "a", "+") == "+.500 (-.250 .. +1.000)"
    assert interval_words({}, "a") == interval_words({"a": None}, "a") == ""  # type: ignore[dict-item]
    row = {"name": "x", "bank": 9, "queries": 10, "knn_trained": 0.9}
    low, high = class_interval(row, "knn_trained")
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)  # Wilson (1927), 9 of 10
    many = [{**row, "name": f"class {n}", "knn_trained": n / 600} for n in range(600)]
    section = classes_section(many)
    assert section is not None and section.body.count("<svg") == 41 and "100 better classes" in section.body


def test_sections_follow_what_was_measured() -> None:
    metrics = {"knn_trained": 0.5, "knn_10_trained": 0.4, "knn_20_trained": 0.5, "map_trained": 0.2}
    probes = probes_section(metrics)
    assert probes is not None and "10: 0.400, 20: 0.500" in probes.body and "mAP" in probes.body
    assert probes_section({}) is None and label_free_section({}) is None
    few = {f"{name}_{who}": 0.3 for name in ("1_shot", "5_shot", "1_percent") for who in ("trained", "untrained")}
    labels = labels_section(few, bank=1000, classes=4)
    assert labels is not None
    assert re.findall(r"<tr><td>([^<]+)</td>", labels.body) == ["1 a class", "1 % of all", "5 a class"]
    assert labels_section({"1_shot_trained": 0.3}, 10, 2) is None
    small = labels_section(few, bank=100, classes=4)  # 1 % are the 4 labels of 1 a class: one point of the line
    assert small is not None and small.body.count("<tr>") == labels.body.count("<tr>") == 4
    assert [body.count("<circle") for body in (small.body, labels.body)] == [4, 6]
    rows = [
        {"name": f"block_{n}/class", "dim": 8, "knn": n / 9, "knn_lo": 0.0, "knn_hi": 1.0, "rankme": 2.0}
        | {"linear": 0.5, "linear_lo": 0.4, "linear_hi": 0.6}
        for n in (3, 6)
    ]
    heads = [
        {"input": name, "learning_rate": rate, "held_out": 0.5} for name in ("a", "b") for rate in (0.1, 0.2, 0.3)
    ]
    grid = {"head": {"input": "a", "learning_rate": 0.2}, "selection": heads}
    layers = layers_section([*rows, {**rows[0], "name": "backbone"}], grid)
    assert layers is not None and layers.body.count('class="chart"') == 1 and "backbone" in layers.body
    assert layers.body.count("<td title=") == 6 and "chosen: a at 0.2" in layers.body
    tuned = probes_section(metrics, {"trained": {"losses": [2.0, 1.0, 0.5]}})
    assert tuned is not None and "Fine-tuning" in tuned.body and "Fine-tuning" not in probes.body
    assert shifts_section({}) is None


def test_changed_pictures_fill_a_heat_map() -> None:
    def shifted(name: str, accuracy: float) -> dict[str, Any]:
        low, high = accuracy - 0.1, accuracy + 0.1
        return {
            "name": name,
            "accuracy": accuracy,
            "interval": [low, high],
            "drop": 0.1,
            "drop_interval": [0, 0.2],
            "same": 0.9,
        }

    rows = [shifted("clean", 0.8), shifted("fog_1", 0.7), shifted("fog_5", 0.2), shifted("jpeg_1", 0.6)]
    tables = {"images": 50, "trained": [*rows, shifted("crop_0.6", 0.5)], "untrained": rows}
    tables["invariance"] = {"trained": {"hue": {"firing": 0.4, "interval": [0.3, 0.5], "cosine": 0.1}}}
    section = shifts_section(tables)
    assert section is not None
    assert section.body.count('<td title="fog / ') == 4
    assert section.body.count("<td></td>") == 2  # jpeg was not measured at strength 5
    assert "crop 0.6" in section.body and "Invariance" in section.body and "Shortcut" not in section.body


def test_pages_are_drawn_at_600_pixels(browser: Any, evaluated: Evaluated, tmp_path: Any) -> None:  # noqa: F811
    write_pages(tmp_path, evaluated)
    for name in ("figures", "mistakes", "neighbours", "patches"):
        path = tmp_path / f"{name}.html"
        with opened(browser, path.as_uri(), tmp_path / f"evaluate-{name}.png") as page:
            assert drawn(page) == len(page.query_selector_all("img"))
            assert page.evaluate("document.documentElement.scrollWidth") <= 600
            for button in page.query_selector_all("nav button"):
                button.click()
            page.evaluate("scrollTo(0, 0)")
