"""The page: headline figures, two charts drawn as SVG, three tables. No dependencies."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from code_census.model import Finding, Function, Package, Summary

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f4; --card: #ffffff; --ink: #1c1d1a; --soft: #63655d; --line: #e4e4de;
  --bar: #2f6f5e; --bar-soft: #bfd8cf; --warn: #a8481f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #141513; --card: #1d1f1c; --ink: #ecece6; --soft: #a1a399; --line: #31332e;
    --bar: #6cc3a8; --bar-soft: #2c4a41; --warn: #f0946a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.015em; margin: 0 0 6px; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin: 28px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.tile b { display: block; font-size: 26px; line-height: 1.2; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.tile.warn b { color: var(--warn); }
.pair { display: grid; grid-template-columns: 3fr 2fr; gap: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 22px; margin-bottom: 12px; overflow-x: auto; }
@media (max-width: 820px) { .pair { grid-template-columns: 1fr; gap: 0; } }
svg { display: block; width: 100%; height: auto; margin-top: 14px; }
svg text { font-size: 13px; fill: var(--ink); }
svg .value { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .track { stroke: var(--line); }
svg .bar { fill: var(--bar); }
svg g:hover .bar { opacity: 0.75; }
table { border-collapse: collapse; width: 100%; margin-top: 12px; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.kind { color: var(--warn); white-space: nowrap; }
footer { margin-top: 28px; font-size: 13px; color: var(--soft); }
"""

# A chart is drawn in units of its own width and scaled by the browser.
LABEL_WIDTH = 128
VALUE_WIDTH = 62
ROW_HEIGHT = 26
BAR_HEIGHT = 16


def render(summary: Summary, title: str) -> str:
    """The whole page."""
    biggest = [(package.name, package.lines) for package in summary.packages]
    tests = summary.lines - summary.library_lines
    note = f"{number(summary.files)} files of source code."
    if tests:
        note += f" The rankings leave out its tests, {number(tests)} lines."
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}: a census</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>A census of {note}</p>
{tiles(summary)}
<div class="pair">
{card("Where the code is", "Lines in each top-level package", bars(biggest, "lines", 620))}
{card("What everybody imports", "Files that import it", bars(summary.imports, "files", 400))}
</div>
{card("The packages in figures", "", package_table(summary.packages))}
{card("The longest functions", "At most one of each file", function_table(summary.longest))}
{card("Files that cannot be parsed", "Recorded as findings", problem_table(summary.problems))}
<footer>Drawn by <code>examples/code_census</code>, a durable flow: listing, parsing, counting
and drawing are checkpoints, and none of them is done twice.</footer>
</main>
</body>
</html>
"""


def number(value: int) -> str:
    return f"{value:,}"


def tiles(summary: Summary) -> str:
    figures = [
        ("files", summary.files, ""),
        ("lines", summary.lines, ""),
        ("functions", summary.functions, ""),
        ("classes", summary.classes, ""),
        ("TODOs", summary.todos, ""),
        ("not parsed", len(summary.problems), "warn" if summary.problems else ""),
    ]
    drawn = "".join(
        f'<div class="tile {tone}"><b>{number(value)}</b>{label}</div>'
        for label, value, tone in figures
    )
    return f'<div class="tiles">{drawn}</div>'


def card(heading: str, note: str, body: str) -> str:
    said = f"<p>{escape(note)}</p>" if note else ""
    return f'<section class="card"><h2>{escape(heading)}</h2>{said}{body}</section>'


def bars(rows: Sequence[tuple[str, int]], unit: str, width: int) -> str:
    """A horizontal bar for each row, its value written at its end."""
    height = ROW_HEIGHT * len(rows)
    most = max((value for _, value in rows), default=1) or 1
    room = width - LABEL_WIDTH - VALUE_WIDTH
    drawn = "".join(
        bar(label, value, unit, at=index, length=max(2.0, room * value / most))
        for index, (label, value) in enumerate(rows)
    )
    spoken = escape("; ".join(f"{label}: {number(value)} {unit}" for label, value in rows))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{spoken}">'
        f'<line class="track" x1="{LABEL_WIDTH}.5" x2="{LABEL_WIDTH}.5" y1="0" y2="{height}"/>'
        f"{drawn}</svg>"
    )


def bar(label: str, value: int, unit: str, *, at: int, length: float) -> str:
    top = at * ROW_HEIGHT
    text = top + ROW_HEIGHT / 2 + 4.5
    shown = label if len(label) <= 17 else label[:16] + "…"
    return (
        f"<g><title>{escape(label)}: {number(value)} {unit}</title>"
        f'<text x="{LABEL_WIDTH - 10}" y="{text}" text-anchor="end">{escape(shown)}</text>'
        f'<path class="bar" d="{rounded(LABEL_WIDTH + 1, top + 5, length)}"/>'
        f'<text class="value" x="{LABEL_WIDTH + length + 9:.1f}" y="{text}">{number(value)}</text>'
        "</g>"
    )


def rounded(x: float, y: float, length: float) -> str:
    """A bar that is square where it stands on the axis and round at its end."""
    r = min(3.0, length)
    end = x + length
    return (
        f"M{x} {y}H{end - r:.1f}Q{end:.1f} {y} {end:.1f} {y + r}"
        f"V{y + BAR_HEIGHT - r}Q{end:.1f} {y + BAR_HEIGHT} {end - r:.1f} {y + BAR_HEIGHT}H{x}Z"
    )


def package_table(packages: Sequence[Package]) -> str:
    rows = [
        (
            f"<code>{escape(package.name)}</code>",
            number(package.files),
            number(package.lines),
            number(package.functions),
            number(package.classes),
            number(package.todos),
        )
        for package in packages
    ]
    return table(("Package",), ("Files", "Lines", "Functions", "Classes", "TODOs"), rows)


def function_table(functions: Sequence[Function]) -> str:
    rows = [
        (
            f"<code>{escape(function.name)}</code>",
            f"<code>{escape(function.path)}:{function.line}</code>",
            number(function.lines),
        )
        for function in functions
    ]
    return table(("Function", "Where"), ("Lines",), rows)


def problem_table(problems: Sequence[Finding]) -> str:
    rows = [
        (
            f"<code>{escape(problem.path)}:{problem.line}</code>",
            f'<span class="kind">{escape(problem.kind)}</span>',
            escape(problem.text),
        )
        for problem in problems
    ]
    return table(("Where", "What", "What the parser says"), (), rows)


def table(words: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose last columns, the figures, are set to the right."""
    marks = [""] * len(words) + [' class="n"'] * len(figures)
    titles = zip(marks, [*words, *figures], strict=True)
    head = "".join(f"<th{mark}>{escape(title)}</th>" for mark, title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{c}</td>" for m, c in zip(marks, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
