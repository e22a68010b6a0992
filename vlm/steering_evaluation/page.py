"""The report on steering as one HTML page; every plot has the table it was drawn from beside it."""

import json
from html import escape
from pathlib import Path
from typing import Any

from sparse_encoder.evaluation.html_page import (
    JSON_FILE,
    document,
    legend,
    report_files,
    table,
    write_files,
)
from sparse_encoder.evaluation.svg_plots import Bar, Line, bar_chart, line_chart
from vlm.steering_evaluation.concept_means import ConceptMean, rates
from vlm.steering_evaluation.page_details import (
    CHECK_FILE,
    judges_section,
    paper_section,
    several_section,
    share_cell,
    side_effects_section,
    to_check_section,
)
from vlm.steering_evaluation.report import STRONGEST, SteeringReport
from vlm.steering_evaluation.three_tasks import HEADLINE, FamilyResult, summary


def write_steering_report(report: SteeringReport, folder: Path, name: str) -> list[Path]:
    """Writes report.json, report.html and to_check.jsonl, each whole or not at all."""
    numbers, drawn = report_files(folder)
    check = folder / CHECK_FILE
    rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in report.to_check]
    files = {
        numbers: json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n",
        check: "".join(rows),
        drawn: page(report, name),
    }
    write_files(folder, files)
    return list(files)


def page(report: SteeringReport, name: str) -> str:
    """The whole page."""
    title = f"{name}: steering report"
    return document(
        title,
        [
            _head(report, title),
            _bars(report),
            _tasks(report),
            *(_curves(family) for family in _headlines(report)),
            _concepts(report),
            paper_section(report),
            judges_section(report),
            side_effects_section(report),
            several_section(report),
            to_check_section(report),
            _sources(report),
        ],
    )


def _headlines(report: SteeringReport) -> list[FamilyResult]:
    return [family for family in report.families if family.family == HEADLINE]


def _head(report: SteeringReport, title: str) -> str:
    sets = ", ".join(f"{name} {n}" for name, n in report.photographs.items())
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in report.limits)
    return (
        f"<h1>{escape(title)}</h1><p>Model {escape(report.fingerprint[:12])}. Held-out photographs: "
        f"{escape(sets)}. Unsteered answers called corrupt: {report.unsteered_corrupt}. "
        f"{len(report.refused)} labels that no edit can name were left out.</p>"
        f"<h2>What these figures do not say</h2><ul>{limits}</ul>"
    )


def _bars(report: SteeringReport) -> str:
    words = {True: "met", False: "missed", None: "cannot be told"}
    rows = [
        [
            bar.name,
            bar.wanted,
            "-" if bar.found is None else f"{100 * bar.found:.1f}",
            words[bar.met],
        ]
        for bar in report.bars
    ]
    return (
        "<h2>Bars</h2><p>Means over concepts, K &lt;= 4, strengths chosen on one half of the "
        "photographs, reported on the other: by success, soundness and what else is retained, or, at the "
        "strongest, by the first two alone. Per cent, or points.</p>"
        + table(["bar", "wanted", "found", ""], rows)
    )


def _tasks(report: SteeringReport) -> str:
    groups, rows, keys = [], [], dict[str, int]()
    for family in _headlines(report):
        ways = [("steered", family.own, "each concept's own")]
        if family.strongest is not None:
            ways += [(STRONGEST, family.strongest.trials, "each concept's own")]
        ways += [("steered, one strength", family.common, str(family.chosen.common))]
        for other in report.families:
            if other.task == family.task and other.family != HEADLINE:
                ways.append((f"steered, {other.family}", other.own, "each concept's own"))
        for baseline in report.baselines:
            if baseline.task == family.task:
                strength = "" if baseline.strength is None else str(baseline.strength)
                ways.append((baseline.name, baseline.trials, strength))
        bars = []
        for name, trials, strength in ways:
            found: dict[str, Any] = summary(trials)
            rows.append([f"{family.task}, {name}", *(_mean(found[k]) for k in _MEANS), strength])
            if found["success"]["mean"] is not None:
                series = keys.setdefault(name, len(keys) % 6)
                bars.append(Bar(series, name, found["success"]["mean"]))
        groups.append((family.task, bars))
    return (
        "<h2>Insertion, suppression, replacement</h2><p>Success on the test half: the answer says the "
        "target, no longer says the source, and is not corrupt; mean over concepts, 95 % bootstrap "
        "interval over concepts. Hover over a bar for its name. The dense baselines move the trunk's "
        "vectors and pass the frozen sparse head on the way to the same language model; they are "
        "judged where there are training photographs of the concept.</p>"
        + bar_chart("Success by way of steering", groups)
        + legend(keys if len(keys) <= 6 else {})
        + table(["task, way", "success %", "corrupt %", "retained %", "strength"], rows)
    )


_MEANS = ("success", "corrupt", "retained")


def _curves(family: FamilyResult) -> str:
    if family.task == "suppression":
        rows = [
            [
                f"K {s.k}",
                f"{100 * c.success:.0f}",
                f"{100 * (1 - c.sound):.1f}",
                share_cell(c.retained),
            ]
            for s, c in family.curve.items()
        ]
        return "<h2>Suppression over K, dev half</h2>" + table(
            ["features", "success %", "corrupt %", "retained %"], rows
        )
    ks = sorted({strength.k for strength in family.curve})
    lines = []
    for i, k in enumerate(ks):
        points = sorted((s.dose or 0.0, c.success) for s, c in family.curve.items() if s.k == k)
        lines.append(Line(2 * i % 6, f"K {k}", points))
    rows = [
        [str(s), f"{100 * c.success:.0f}", f"{100 * (1 - c.sound):.1f}", share_cell(c.retained)]
        + [f"{c.mean:.3f}"]
        for s, c in family.curve.items()
    ]
    title = f"{family.task.capitalize()} over dose, dev half"
    return (
        f"<h2>{title}</h2><p>From these curves the strengths were chosen, by the harmonic mean of "
        "success, answers that are not corrupt, and other objects retained.</p>"
        + line_chart(title, lines, "dose, p99", lambda v: f"{100 * v:.0f} %", top=1.0)
        + table(["strength", "success %", "corrupt %", "retained %", "harmonic mean"], rows)
    )


def _concepts(report: SteeringReport) -> str:
    out = []
    for family in _headlines(report):
        found = sorted(rates(family.own).items(), key=lambda item: (item[1].value or 0.0, item[0]))
        eligible = report.eligible.get(family.task, {})
        rows = [
            [concept, str(rate), eligible.get(concept, ""), str(family.chosen.of(concept))]
            for concept, rate in found
        ]
        out.append(
            f"<details><summary>{family.task}: {len(rows)} concepts</summary>"
            + table(["concept", "success", "eligible photographs", "strength"], rows)
            + "</details>"
        )
    return "<h2>Concepts, worst first</h2>" + "".join(out)


def _sources(report: SteeringReport) -> str:
    made = ", ".join(f"{key} {value}" for key, value in report.made_with.items())
    return (
        '<p class="soft">Protocol: Sparse CLIP, arXiv 2601.20075; choice of strength: AxBench, arXiv '
        f"2501.17148. Made with: {escape(made)}. All numbers are in {JSON_FILE} beside this page.</p>"
    )


def _mean(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "-"
    low, high = found["bootstrap_95"]
    return str(ConceptMean(found["mean"], low, high, found["concepts"]))
