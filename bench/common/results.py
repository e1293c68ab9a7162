"""CSV files of figures: one for each kind of bench, rows only ever added, machine and commit left in each row."""

import csv
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "bench/results"
sys.path.insert(0, str(ROOT / "tools"))
import machine  # noqa: E402


class Table:
    """Rows of one call of a bench. They share their facts, so that the call can be found again by its date."""

    def __init__(self, name, folder=FOLDER):
        self.path = Path(folder) / f"{name}.csv"
        self.facts = machine.facts()

    def add(self, **columns):
        """Written at once: a bench that is stopped keeps what it measured."""
        row = self.facts | columns
        self.path.parent.mkdir(parents=True, exist_ok=True)
        known = columns_of(self.path)
        if known and known != list(row):
            raise SystemExit(f"{self.path} has other columns: move it away, its rows come from an older bench")
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            if not known:
                writer.writeheader()
            writer.writerow(row)
        return row


def columns_of(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def latest(name, folder=FOLDER, by="date", each=()):
    """Rows of the last call (of the last commit, with by='commit'), or with `each` of the last that measured it for
    every different set of those columns. None where there is no such file."""
    path = Path(folder) / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = {tuple(row[column] for column in each): row[by] for row in rows}
    return [row for row in rows if row[by] == last[tuple(row[column] for column in each)]]


def median(rows, column):
    return statistics.median(float(row[column]) for row in rows)


def highest(rows, column):
    return max(float(row[column]) for row in rows)


def groups(rows, *columns):
    """Rows that agree in these columns, in the order in which they first appear."""
    found = {}
    for row in rows:
        key = tuple(row[column] for column in columns)
        found.setdefault(key[0] if len(columns) == 1 else key, []).append(row)
    return found
