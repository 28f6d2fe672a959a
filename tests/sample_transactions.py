"""A small transactions file for checks on a database of somebody else: ``python -m tests.sample_transactions FILE``.

Three shops, half a year each, whole cents, a closed Sunday, refunds and exact duplicates; the same bytes every time.
"""

import csv
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

DAYS = 180
SHOPS = {"Sample bakery": 0, "Sample bar": 1, "Sample bookshop": 2}


def write_sample(path: Path, first_day: datetime = datetime(2024, 1, 1)) -> None:  # noqa: DTZ001 - local times of the shop
    """Write the file; times are naive, as a till prints them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["tenant_id", "fecha", "total", "producto_id"])
        for name, seed in SHOPS.items():
            rng = np.random.default_rng(seed)
            for day in (first_day + timedelta(days=i) for i in range(DAYS)):
                out.writerows(_tickets(name, day, rng))


def _tickets(name: str, day: datetime, rng: np.random.Generator) -> list[list[str]]:
    if name == "Sample bakery" and day.weekday() == 6:
        return []
    rows = []
    for _ in range(int(rng.poisson(6 + 3 * (day.weekday() >= 4)))):
        moment = day + timedelta(minutes=int(rng.integers(8 * 60, 20 * 60)))
        cents = int(rng.integers(150, 4_000)) * (-1 if rng.random() < 0.02 else 1)
        rows.append([name, moment.isoformat(), f"{cents / 100:.2f}", f"P{int(rng.integers(1, 9))}"])
    return rows + rows[-1:] * (rng.random() < 0.05)


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]))
