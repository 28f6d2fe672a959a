"""The series that are judged: the whole file or an even sample of its sources."""

import csv
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.errors import InvalidFile
from app.services.ml.evaluate import read_series
from benchmarks.methods import Known

SALES, COUNTRIES = "daily_sales_dev.csv.gz", "countries_dev.csv"
SOURCES = ("rossmann", "favorita_tickets", "recruit", "m5_item", "kiel_bakery", "online_retail")


def data_folder() -> Path:
    """`TENANTCAST_DATA`, by default ../shared/data.

    Raises
    ------
    InvalidFile : the folder lacks the series or the countries
    """
    folder = Path(os.environ.get("TENANTCAST_DATA") or "../shared/data")
    missing = [name for name in (SALES, COUNTRIES) if not (folder / name).is_file()]
    if missing:
        raise InvalidFile(
            f"{folder} holds no {' and no '.join(missing)}.",
            next_step="Name the folder with the real series in TENANTCAST_DATA.",
        )
    return folder


def read_known(folder: Path) -> list[Known]:
    """Every series of the file, whole, with the country of its holidays."""
    with (folder / COUNTRIES).open(encoding="utf-8", newline="") as file:
        countries = {row["unique_id"]: row["country"] for row in csv.DictReader(file)}
    return [Known(name, series, countries.get(name, "")) for name, series in read_series(folder / SALES).items()]


def source_of(unique_id: str) -> str:
    """The source that a series comes from: the prefix of its name."""
    found = [source for source in SOURCES if unique_id.startswith(f"{source}_")]
    return found[0] if found else unique_id.rpartition("_")[0] or unique_id


def sample(series: Sequence[Known], wanted: int) -> list[Known]:
    """``wanted`` series, as equally many of each source as there are, spread evenly over it; in the file's order.

    A source with fewer gives all it has, and the others share the rest.
    """
    by_source: dict[str, list[int]] = {}
    for position, one in enumerate(series):
        by_source.setdefault(source_of(one.unique_id), []).append(position)
    quota = dict.fromkeys(by_source, 0)
    left = min(wanted, len(series))
    while left:
        for source, positions in by_source.items():
            if left and quota[source] < len(positions):
                quota[source] += 1
                left -= 1
    chosen = (np.array(positions)[_spread(len(positions), quota[name])] for name, positions in by_source.items())
    return [series[position] for position in sorted(np.concatenate([*chosen, np.empty(0, int)]).tolist())]


def digest(known: Sequence[Known]) -> str:
    """Hash of what a method is shown: names, first days, countries and sales."""
    sha = hashlib.sha256()
    for one in known:
        sha.update(f"{one.unique_id}|{one.series.start}|{one.country}|{len(one.series)}|".encode())
        sha.update(np.ascontiguousarray(one.series.y, dtype="<f8").tobytes())
    return sha.hexdigest()[:16]


def origins(n_days: int, horizon: int, windows: int, least: int) -> list[int]:
    """Days known at the last ``windows`` origins, ``horizon`` days apart, oldest first; none below ``least`` + 1."""
    return [known for back in range(windows, 0, -1) if (known := n_days - back * horizon) > least]


def _spread(n: int, wanted: int) -> list[int]:
    return [int((2 * k + 1) * n / (2 * wanted)) for k in range(wanted)]
