"""The report on steering as one HTML page; every plot has the table it was drawn from beside it."""

import json
from collections.abc import Sequence
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
from vlm.corruption import RULES
from vlm.rate import Rate
from vlm.steering_evaluation.concept_means import ConceptMean, rates
from vlm.steering_evaluation.paper_grid import KS, STRENGTHS
from vlm.steering_evaluation.report import SteeringReport
from vlm.steering_evaluation.three_tasks import HEADLINE, FamilyResult, summary
from vlm.steering_evaluation.to_check import N_EACH

CHECK_FILE = "to_check.jsonl"


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
            _paper(report),
            _judges(report),
            _side_effects(report),
            _several(report),
            _to_check(report),
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
        "photographs, reported on the other. Per cent, or points.</p>"
        + table(["bar", "wanted", "found", ""], rows)
    )


def _tasks(report: SteeringReport) -> str:
    groups, rows, keys = [], [], dict[str, int]()
    for family in _headlines(report):
        ways = [("steered", family.own, "each concept's own")]
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
            [f"K {s.k}", f"{100 * c.success:.0f}", f"{100 * (1 - c.sound):.1f}", _share(c.retained)]
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
        [str(s), f"{100 * c.success:.0f}", f"{100 * (1 - c.sound):.1f}", _share(c.retained)]
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


def _paper(report: SteeringReport) -> str:
    grid = report.grid
    at = {(cell.k, cell.ss): cell for cell in grid.cells}
    lines = [
        Line(i % 6, f"K {k}", [(s, at[k, s].scores.target_after or 0.0) for s in STRENGTHS])
        for i, k in enumerate(KS)
        if all((k, s) in at for s in STRENGTHS)
    ]
    rows = [
        [f"K {cell.k}, SS {cell.ss:g}"]
        + [
            _number(v)
            for v in (
                cell.scores.source_before,
                cell.scores.source_after,
                cell.scores.target_before,
                cell.scores.target_after,
            )
        ]
        + [_share(cell.scores.wins), _rate(cell.success), _rate(cell.corrupt["any"])]
        + [_rate(cell.corrupt[rule]) for rule in RULES]
        for cell in grid.cells
    ]
    units = [[f"SS {ss:g}", *(f"{v:.2f}" for v in found)] for ss, found in grid.ss_in_p99.items()]
    heads = ["cell", "source before", "after", "target before", "after", "wins %", "success %"]
    return (
        f"<h2>The paper's protocol</h2><p>{grid.n_images} labelled photographs ({grid.n_dropped} "
        "dropped, for their drawn label cannot be told from their own), each with one other label "
        "drawn by chance; asked for the main subject. Cosines by "
        f"{escape(report.sbert)}. SS is an absolute activation.</p>"
        + line_chart(
            "Cosine to the boosted label after steering", lines, "SS", lambda v: f"{v:.2f}", top=1.0
        )
        + table([*heads, "corrupt %", *(f"{rule} %" for rule in RULES)], rows)
        + "<p>What SS is in multiples of p99, over live features:</p>"
        + table(["", "10th percentile", "median", "90th"], units)
    )


def _judges(report: SteeringReport) -> str:
    rows = []
    for one in report.judging:
        scores, agreed = one.scores, one.agreement
        rows.append(
            [one.task]
            + [_number(v) for v in (scores.source_before, scores.source_after)]
            + [_number(v) for v in (scores.target_before, scores.target_after)]
            + [_share(scores.wins), str(one.success), agreed.n, _share(agreed.share)]
            + [_number(agreed.kappa)]
        )
    head = [
        "task",
        "source before",
        "after",
        "target before",
        "after",
        "wins %",
        "success by SBERT",
    ]
    return (
        "<h2>Two judges</h2><p>SBERT says that an answer mentions a concept where their cosine is at "
        f"least {report.sbert_threshold:.3f}, the threshold that agrees best with the mention test on "
        "unsteered answers. Kappa: 1 always agree, 0 as by chance.</p>"
        + table([*head, "answers", "agree %", "kappa"], rows)
    )


def _side_effects(report: SteeringReport) -> str:
    rows = [
        [one.task, str(one.unrelated), str(one.unrelated_random), str(one.retained)]
        + [str(one.retained_random), f"{one.drift:.3f}", f"{one.drift_random:.3f}"]
        + [_number(one.drift_prompt)]
        for one in report.side_effects
    ]
    same = report.no_op
    verdict = {True: "holds", False: "FAILS", None: "could not be made"}[same.holds]
    return (
        "<h2>What should stay</h2><p>Unrelated questions: answers that stay letter for letter. "
        "Retained: other objects said before that are still said. Drift: mean change of the cosine to "
        "50 other labels. Each beside random features of like density and strength. The no-op test "
        f"{verdict}: {same.n} photographs with a concept ablated of which no feature is active; "
        f"{same.same_codes} codes equal bit for bit, {same.same_answers} answers letter for letter.</p>"
        + table(
            [
                "task",
                "unrelated",
                "random",
                "retained",
                "random",
                "drift",
                "random",
                "better prompt",
            ],
            rows,
        )
    )


def _several(report: SteeringReport) -> str:
    composed = [
        [one.kind, str(one.all_of), ", ".join(_rate(rate) for rate in one.each), _rate(one.corrupt)]
        for one in report.composition
    ]
    regions = [
        [one.kind, one.made, *(str(r) for r in (one.both, one.left_as_wished, one.right_kept))]
        + [str(one.whole_picture)]
        for one in report.regions
    ]
    return (
        "<h2>Several edits at once</h2>"
        + table(["edits", "all succeed", "each %", "corrupt %"], composed)
        + "<h2>The left half edited</h2><p>Two photographs side by side, the edit limited to the left "
        "half; of the pictures made, those whose unsteered answer says what is needed.</p>"
        + table(
            ["edit", "made", "both", "left as wished", "right kept", "right kept without a region"],
            regions,
        )
    )


def _to_check(report: SteeringReport) -> str:
    rows = [
        [row["task"], row["source"] or "", row["target"] or "", row["before"], row["after"]]
        + [_yes(row["words"]), _yes(row["sbert"]), ", ".join(_texts(row["corrupt"]))]
        for row in report.to_check
    ]
    head = ["task", "source", "target", "before", "after", "words", "SBERT", "corrupt"]
    return (
        f"<h2>Answers to check</h2><p>At most {N_EACH} of each task, drawn by chance; {CHECK_FILE} has "
        "them with a field for your verdict.</p><details><summary>"
        f"{len(rows)} answers</summary>" + table(head, rows) + "</details>"
    )


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


def _rate(rate: Rate) -> str:
    return "-" if rate.value is None else f"{100 * rate.value:.0f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _texts(value: object) -> Sequence[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
