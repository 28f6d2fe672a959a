"""How much a worker process grows per tenant: fit, seal, read back, carry forward, for one small tenant after another.

    make memory                   2,000 tenants with the candidates of `fast`
    make memory TENANTS=300 CANDIDATES=full

Every tenant has a history of its own length and a country of its own turn. The first tenth (200 of 2,000) pays for
libraries, holidays and the allocator's pools; growth is the slope of the resident size over the tenants after it.
"""

import argparse
import gc
import resource
import tempfile
from datetime import date
from pathlib import Path
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.progress import track

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.services.ml.artifact import ArtifactKeys, load_keys, open_model, seal_model
from app.services.ml.calendar import Calendar
from app.services.ml.fitted_model import FittedModel
from app.services.ml.history_mark import HistoryMark
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.series import DailySeries

TARGET_KB = 5.0
WARM_UP_SHARE = 0.1
COUNTRIES = ("", "ES", "DE-BY", "MX", "FR")
PAGE = resource.getpagesize()


def main() -> int:
    """Measure, print, and exit with 1 above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=2000)
    parser.add_argument("--candidates", default="fast", help="as ML_MODEL_CANDIDATES")
    wanted = parser.parse_args()
    console = Console()
    settings = MLSettings(model_candidates=wanted.candidates)
    with tempfile.TemporaryDirectory() as home:
        keys = load_keys(Settings(tenantcast_home=Path(home)))
        sizes, artefacts = [], []
        for n in track(range(wanted.tenants), "tenants", console=console):
            artefacts.append(_one_tenant(n, settings, keys))
            sizes.append(_resident())
    gc.collect()
    first = int(wanted.tenants * WARM_UP_SHARE)
    growth = float(np.polyfit(np.arange(wanted.tenants - first), sizes[first:], 1)[0]) / 1000
    console.print(
        f"{wanted.tenants} tenants, {wanted.candidates}: {sizes[first] / 1e6:.0f} MB after {first}, "
        f"{sizes[-1] / 1e6:.0f} MB at the end"
    )
    console.print(f"growth {growth:.2f} kB per tenant (at most {TARGET_KB:.0f})")
    console.print(
        f"artefact {np.mean(artefacts) / 1000:.1f} kB of base64 on average, {max(artefacts) / 1000:.1f} at most"
    )
    return 0 if growth <= TARGET_KB else 1


def _one_tenant(n: int, settings: MLSettings, keys: ArtifactKeys) -> int:
    """Forecast, store, read back and carry forward; the artefact's length in characters."""
    rng = np.random.default_rng(n)
    n_days = int(rng.integers(90, 240))
    week = rng.uniform(0.2, 2.0, 7)
    y = 100.0 * week[np.arange(n_days) % 7] * rng.gamma(20.0, 0.05, n_days)
    known, calendar = DailySeries(date(2025, 1, 6), y), Calendar(COUNTRIES[n % len(COUNTRIES)])
    engine = BusinessMLEngine(settings)
    model = FittedModel.of(engine.forecast(known, calendar), {}, HistoryMark.of(known, calendar))
    tenant = UUID(int=n)
    whose = {"tenant_id": tenant, "model_type": "sales_forecast", "model_version": "1"}
    sealed = seal_model(model.to_state(), keys, **whose, run_id=str(tenant), fence=1)  # type: ignore[arg-type]
    read = FittedModel.from_state(open_model(sealed, keys, **whose).state)  # type: ignore[arg-type]
    if read.level != "fallback":  # chosen by rule: always fitted anew
        engine.reanchor(read, known, calendar)
    return len(sealed)


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


if __name__ == "__main__":
    raise SystemExit(main())
