"""A quarter's sales from messy exports: python job.py [--out FILE] [--data FOLDER]

Needs pandas. Data frames are arguments and results of checkpoints like any other
value: recorded exactly (types of columns, index and missing values included), and
compared by what they hold.
"""

import argparse
import os
from pathlib import Path

import pandas as pd

from kitaru import checkpoint, flow

RATES = {"EUR": 1.0, "USD": 0.91, "JPY": 0.0061}


# A Path that exists counts with its size and time of change: an export that was not
# touched is not read again.
@checkpoint
def load(export: Path) -> pd.DataFrame:
    table = pd.read_csv(export, parse_dates=["day"], dtype={"order": "string"})
    return table.assign(region=export.stem)


@checkpoint
def clean(table: pd.DataFrame) -> pd.DataFrame:
    """Orders as they should have been: once each, with an amount, products by one name."""
    table = table.drop_duplicates("order").dropna(subset=["amount"])
    return table.assign(product=table["product"].str.strip().str.lower()).reset_index(drop=True)


@checkpoint
def in_euros(table: pd.DataFrame, rates: dict[str, float]) -> pd.DataFrame:
    unknown = set(table["currency"]) - set(rates)
    if unknown:
        # Fails the flow, not the night: with the rate added, the next run reuses all that
        # was loaded and cleaned, and goes on here.
        raise ValueError(f"no rate for {', '.join(sorted(unknown))}")
    return table.assign(euros=(table["amount"] * table["currency"].map(rates)).round(2))


@checkpoint
def summarise(tables: list[pd.DataFrame]) -> pd.DataFrame:
    orders = pd.concat(tables, ignore_index=True)
    month = orders["day"].dt.to_period("M").astype(str)
    return orders.pivot_table(
        index="product", columns=month, values="euros", aggfunc="sum", fill_value=0.0
    ).round(2)


# cache=False: reuse would return the path and leave no file there.
@checkpoint(cache=False)
def write(summary: pd.DataFrame, target: Path) -> Path:
    # Whole or not at all: a crash leaves the last report, never half of one.
    partial = target.with_suffix(".partial")
    summary.to_csv(partial)
    os.replace(partial, target)
    return target


@flow
def quarter(data: Path, target: Path, rates: dict[str, float]) -> pd.DataFrame:
    tables = load.map(sorted(data.glob("*.csv")))
    cleaned = clean.map(tables)
    euros = in_euros.map(cleaned, rates)
    summary = summarise(euros.results())
    write(summary, target)
    return summary


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    options.add_argument("--out", type=Path, default=Path("quarter.csv"))
    chosen = options.parse_args()
    print(quarter.run(chosen.data, chosen.out, RATES).wait())


if __name__ == "__main__":
    main()
