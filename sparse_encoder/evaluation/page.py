"""The report on an encoder as one HTML page that needs nothing else: no network, no script.

Every plot has the table it was drawn from beside it or below it.
"""

import json
from html import escape
from pathlib import Path

from sparse_encoder.evaluation.html_page import (
    JSON_FILE,
    document,
    legend,
    number,
    percent,
    report_files,
    table,
    write_files,
)
from sparse_encoder.evaluation.measures import EncoderMeasures
from sparse_encoder.evaluation.modality import MULTIMODAL
from sparse_encoder.evaluation.svg_plots import Bar, bar_chart, heat_map, histogram_chart


def write_report(measures: EncoderMeasures, folder: Path, name: str) -> tuple[Path, Path]:
    """Writes report.json and report.html to `folder`, each whole or not at all.

    name: of the encoder, for the page's title. Raises SparsightError where nothing can be written.
    """
    numbers, drawn = report_files(folder)
    files = {
        numbers: json.dumps(measures.to_json(), indent=1, allow_nan=False) + "\n",
        drawn: page(measures, name),
    }
    write_files(folder, files)
    return numbers, drawn


def page(measures: EncoderMeasures, name: str) -> str:
    """The whole page."""
    title = f"{name}: encoder report"
    sections = [
        _head(measures, title),
        _zeroshot(measures),
        _retrieval(measures),
        _boxes(measures),
        _sparsity(measures),
        _modality(measures),
        _semanticity(measures),
        _sources(measures),
    ]
    return document(title, sections)


def _head(measures: EncoderMeasures, title: str) -> str:
    facts = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in measures.encoder.items())
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in measures.limits)
    return (
        f"<h1>{escape(title)}</h1><p>{escape(facts)}. Measured on {measures.n_images:,} images and "
        f"{measures.n_texts:,} captions.</p><h2>What these figures do not say</h2>"
        f"<ul>{limits}</ul>"
    )


def _zeroshot(measures: EncoderMeasures) -> str:
    groups, rows, keys = [], [], {}
    for name, one in measures.sets.items():
        bars = []
        for i, z in enumerate(one.zeroshot):
            for k, share, chance in ((1, z.top1, z.chance_top1), (5, z.top5, z.chance_top5)):
                series, key = 2 * (i % 3) + (k == 5), f"{z.templates}, top-{k}"
                bars.append(Bar(series, key, share, chance))
                keys[key] = series
            rows.append(
                [name, one.n_images, z.n_classes, z.templates]
                + [percent(v) for v in (z.top1, z.top5, z.chance_top1, z.chance_top5)]
            )
        if bars:
            groups.append((name, bars))
    return (
        "<h2>Zero-shot classification</h2>"
        "<p>Share of images whose class is the nearest, or among the five nearest, by the mean of "
        "its templates' text codes; ties count as misses. The line across a bar is chance.</p>"
        + bar_chart("Zero-shot classification", groups)
        + legend(keys)
        + table(
            ["set", "images", "classes", "templates", "top-1 %", "top-5 %", "chance", "chance@5"],
            rows,
        )
    )


def _retrieval(measures: EncoderMeasures) -> str:
    groups, rows, keys = [], [], {}
    for name, one in measures.sets.items():
        if one.retrieval is None:
            continue
        for way, words in (("t2i", "text to image"), ("i2t", "image to text")):
            found = {k: v for k, v in one.retrieval.recall.items() if k.startswith(way)}
            bars = []
            for i, (key, share) in enumerate(found.items()):
                label = f"R@{key.split('@')[1]}"
                bars.append(Bar(2 * (i % 3), label, share, one.retrieval.chance[key]))
                keys[label] = 2 * (i % 3)
            groups.append((f"{name}, {words}", bars))
            rows.append(
                [f"{name}, {words}", one.n_images, one.retrieval.n_texts]
                + [f"{percent(v)} ({percent(one.retrieval.chance[k])})" for k, v in found.items()]
            )
    return (
        "<h2>Retrieval</h2><p>Text to image: the caption's photograph is among the k nearest. Image "
        "to text: one of the photograph's captions is. Chance in brackets and across the bars; it "
        "is high where the set is small.</p>"
        + bar_chart("Retrieval", groups)
        + legend(keys)
        + table(["set", "images", "texts", *(f"{k} %" for k in keys)], rows)
    )


def _boxes(measures: EncoderMeasures) -> str:
    rows = [
        [name, b.n_boxes, b.n_images, b.n_categories, percent(b.top1), percent(b.top5)]
        + [percent(b.chance_top1), b.n_crowds + b.n_degenerate, b.n_images_without_photograph]
        for name, b in measures.boxes.items()
    ]
    words = "Each ground-truth box is cut out and named among the categories."
    if not rows:
        words = "Not measured: the data has no box annotations."
    head = ["templates", "boxes", "images", "categories", "top-1 %", "top-5 %", "chance"]
    return f"<h2>Boxes</h2><p>{words}</p>" + table([*head, "left out", "no photograph"], rows)


def _sparsity(measures: EncoderMeasures) -> str:
    every = [("all images", measures.image_sparsity), ("all texts", measures.text_sparsity)]
    every += [(name, one.sparsity) for name, one in measures.sets.items()]
    rows = [
        [name, s.n_inputs, f"{s.threshold:g}", f"{s.l0:.1f}", f"{100 * s.density:.2f}"]
        + [f"{s.active_features:,}", f"{s.dead_features:,}", s.empty_inputs]
        for name, all_of in every
        for s in all_of
    ]
    return (
        "<h2>Sparsity</h2><p>L0: mean number of features with an activation above the threshold. "
        "Active: on two inputs or more of the set; dead: on none. The plot shows how often each "
        "feature is active, dead ones left out.</p>"
        + histogram_chart(
            "Density of features", measures.density, "share of images, threshold 0", log=True
        )
        + table(
            ["set", "inputs", "threshold", "L0", "density %", "active", "dead", "empty codes"], rows
        )
    )


def _modality(measures: EncoderMeasures) -> str:
    modality = measures.modality
    if modality is None:
        return "<h2>Modality</h2><p>Not measured; see the limits above.</p>"
    label = "modality: 0 = texts only, 1 = images only"
    shares = [modality.multimodal_share, modality.multimodal_share_weighted]
    one, weighted = ("-" if s is None else f"{100 * s:.1f} %" for s in shares)
    return (
        "<h2>Modality</h2><p>A feature's mean activation on images, as a share of that on images "
        f"and on texts. Of {modality.n_features:,} features active in either, {one} lie between "
        f"{MULTIMODAL[0]:g} and {MULTIMODAL[1]:g} ({weighted} weighted by activation); "
        f"{modality.image_only:,} speak of images only, {modality.text_only:,} of texts only. The "
        "map shows features by modality and density (mean activation), as the paper's Figure 3b; "
        "darker is more, on a logarithmic scale.</p>"
        + histogram_chart("Modality of features", modality.scores, label)
        + heat_map(
            "Features by modality and density",
            modality.by_density,
            modality.density_edges,
            label,
            "mean activation",
        )
    )


def _semanticity(measures: EncoderMeasures) -> str:
    rows: list[list[object]] = [
        [f"Clarity, {c.min_images} images or more", c.n_features, number(c.mean)]
        + [number(c.baseline), number(c.lift)]
        for c in measures.clarity
    ]
    mono = measures.monosemanticity
    rows.append(["MonoSemanticity", mono.n_features, number(mono.mean), "", ""])
    base = measures.clarity[0].baseline if measures.clarity else None
    mark = None if base is None else ("all images:", base)
    return (
        "<h2>Clarity and MonoSemanticity</h2><p>How alike the images of a feature are, by the mean "
        f"cosine of all their pairs to an embedding of {escape(measures.embedding)}: all alike "
        "(Clarity, threshold "
        f"{measures.clarity[0].threshold if measures.clarity else 0:g}) or weighted by activation "
        "(MonoSemanticity). Higher is better; the line is the same figure over all images.</p>"
        + histogram_chart("Clarity of features", measures.clarity_scores, "Clarity", mark=mark)
        + histogram_chart(
            "MonoSemanticity of features",
            measures.monosemanticity_scores,
            "MonoSemanticity",
            mark=mark,
        )
        + table(["score", "features", "mean", "baseline", "lift"], rows)
    )


def _sources(measures: EncoderMeasures) -> str:
    made = ", ".join(f"{k} {v}" for k, v in measures.made_with.items())
    return (
        '<p class="soft">Definitions: Sparse CLIP, arXiv 2601.20075 (L0, active features, '
        "modality); Clarity, arXiv 2501.05398; MonoSemanticity, arXiv 2504.02821. Made with: "
        f"{escape(made)}. All numbers are in {JSON_FILE} beside this page.</p>"
    )
