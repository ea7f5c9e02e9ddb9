"""The data job: what pandas itself would compute, and how little runs again after each change."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from .conftest import Workbench

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.slow


# Several runs in one process, because what takes time here is to import pandas.
RUNS = """
import json, os, sys
from pathlib import Path
import job
from kitaru import KitaruClient

data, out = Path(job.__file__).parent / "data", Path("q.csv")

def run():
    handle = job.quarter.run(data, out, job.RATES)
    handle.wait()
    calls = KitaruClient().executions.list_checkpoints(handle.exec_id)
    assert len(calls) == 11
    print(json.dumps([call.name for call in calls if call.source == "ran"]))
"""
FIRST = """
run()
first = out.read_text()
out.unlink()
run()
assert out.read_text() == first
os.utime(data / "japan.csv")
run()
with (data / "japan.csv").open("a") as export:
    export.write("JA-2000,2026-03-31,press,1,7984,JPY\\n")
run()
"""


def ran(bench: Workbench, script: str) -> list[Counter[str]]:
    """How many bodies of each checkpoint each run of the script ran."""
    (bench.folder / "sales" / "runs.py").write_text(RUNS + script)
    printed = bench.run(bench.folder / "sales" / "runs.py")
    return [Counter(json.loads(line)) for line in printed.splitlines()]


def expected(data: Path) -> float:
    """The sum of the report, computed the short way."""
    rates = {"EUR": 1.0, "USD": 0.91, "JPY": 0.0061}
    total = 0.0
    for export in data.glob("*.csv"):
        table = pd.read_csv(export).drop_duplicates("order").dropna(subset=["amount"])
        total += float((table["amount"] * table["currency"].map(rates)).round(2).sum())
    return total


def test_the_job_computes_what_pandas_would_and_runs_again_only_what_it_must(
    bench: Workbench,
) -> None:
    folder = bench.copy("sales")
    job, data = folder / "job.py", folder / "data"
    first, again, touched, longer = ran(bench, FIRST)
    assert first == Counter(load=3, clean=3, in_euros=3, summarise=1, write=1)
    assert again == Counter(write=1)
    assert touched == Counter(load=1, write=1), "an equal frame is the same input"
    assert longer == Counter(load=1, clean=1, in_euros=1, summarise=1, write=1)
    report = pd.read_csv(bench.folder / "q.csv", index_col="product")
    assert list(report.columns) == ["2026-01", "2026-02", "2026-03"]
    assert list(report.index) == ["filter", "grinder", "kettle", "press", "scale"]
    assert report.to_numpy().sum() == pytest.approx(expected(data))

    job.write_text(job.read_text().replace(".str.lower()", ".str.lower().str.strip()"))
    [edited] = ran(bench, "run()")
    assert edited == Counter(clean=3, write=1), "the new rule changed no frame"


def test_an_export_in_an_unknown_currency_stops_the_job_and_leaves_the_report(
    bench: Workbench,
) -> None:
    folder = bench.copy("sales")
    job, out = folder / "job.py", bench.folder / "q.csv"
    bench.run(job, "--out", out)
    before = out.read_bytes()
    (folder / "data" / "norway.csv").write_text(
        "order,day,product,units,amount,currency\nNO-1,2026-02-01,press,1,580,NOK\n"
    )
    failed = bench.start(job, "--out", out)
    _, complained = failed.communicate(timeout=60)
    assert failed.returncode == 1
    assert "no rate for NOK" in complained
    assert out.read_bytes() == before
    job.write_text(job.read_text().replace('"USD": 0.91', '"USD": 0.91, "NOK": 0.086'))
    bench.run(job, "--out", out)
    assert out.read_bytes() != before
