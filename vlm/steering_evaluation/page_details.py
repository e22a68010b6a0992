"""Sections of the steering report below the three tasks: protocol, judges, side effects, answers."""

from collections.abc import Sequence
from html import escape

from sparse_encoder.evaluation.html_page import table
from sparse_encoder.evaluation.svg_plots import Line, line_chart
from vlm.corruption import RULES
from vlm.rate import Rate
from vlm.steering_evaluation.paper_grid import KS, STRENGTHS
from vlm.steering_evaluation.report import SteeringReport
from vlm.steering_evaluation.to_check import N_EACH

CHECK_FILE = "to_check.jsonl"


def paper_section(report: SteeringReport) -> str:
    """Cosines, success and corruption of each cell of the grid."""
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
            number_cell(v)
            for v in (
                cell.scores.source_before,
                cell.scores.source_after,
                cell.scores.target_before,
                cell.scores.target_after,
            )
        ]
        + [share_cell(cell.scores.wins), rate_cell(cell.success), rate_cell(cell.corrupt["any"])]
        + [rate_cell(cell.corrupt[rule]) for rule in RULES]
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


def judges_section(report: SteeringReport) -> str:
    """What SBERT says, and how far it agrees with the mention test."""
    rows = []
    for one in report.judging:
        scores, agreed = one.scores, one.agreement
        rows.append(
            [one.task]
            + [number_cell(v) for v in (scores.source_before, scores.source_after)]
            + [number_cell(v) for v in (scores.target_before, scores.target_after)]
            + [share_cell(scores.wins), str(one.success), agreed.n, share_cell(agreed.share)]
            + [number_cell(agreed.kappa)]
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


def side_effects_section(report: SteeringReport) -> str:
    """What should stay, beside random features."""
    rows = [
        [one.task, str(one.unrelated), str(one.unrelated_random), str(one.retained)]
        + [str(one.retained_random), f"{one.drift:.3f}", f"{one.drift_random:.3f}"]
        + [number_cell(one.drift_prompt)]
        for one in report.side_effects
    ]
    same = report.no_op
    verdict = {True: "holds", False: "FAILS", None: "could not be made"}[same.holds]
    return (
        "<h2>What should stay</h2><p>Unrelated questions: answers that stay letter for letter. "
        "Retained: other objects said before that are still said. Drift: mean change of the cosine to "
        "50 other labels. Each beside random features of like density and strength. The no-op test "
        f"{verdict}: {same.n} photographs with features ablated none of which is active; "
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
        + "<p>A concept ablated in photographs whose answer does not name it: answers that stay letter "
        "for letter, other objects still said.</p>"
        + table(
            ["features", "unchanged", "retained", "corrupt %"],
            [
                [one.family, str(one.unchanged), str(one.retained), rate_cell(one.corrupt)]
                for one in report.bystanders
            ],
        )
    )


def several_section(report: SteeringReport) -> str:
    """Several edits at once, and edits of the left half."""
    composed = [
        [
            one.kind,
            str(one.all_of),
            ", ".join(rate_cell(rate) for rate in one.each),
            rate_cell(one.corrupt),
        ]
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


def to_check_section(report: SteeringReport) -> str:
    """The answers written out."""
    rows = [
        [row["task"], row["source"] or "", row["target"] or "", row["before"], row["after"]]
        + [yes_cell(row["words"]), yes_cell(row["sbert"]), ", ".join(texts_cell(row["corrupt"]))]
        for row in report.to_check
    ]
    head = ["task", "source", "target", "before", "after", "words", "SBERT", "corrupt"]
    return (
        f"<h2>Answers to check</h2><p>At most {N_EACH} of each task, drawn by chance; {CHECK_FILE} has "
        "them with a field for your verdict.</p><details><summary>"
        f"{len(rows)} answers</summary>" + table(head, rows) + "</details>"
    )


def rate_cell(rate: Rate) -> str:
    return "-" if rate.value is None else f"{100 * rate.value:.0f}"


def share_cell(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def number_cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def yes_cell(value: object) -> str:
    return "yes" if value else "no"


def texts_cell(value: object) -> Sequence[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
