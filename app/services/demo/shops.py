"""The dozen shops of the demo: what is true about each of them, written down before a single sale is drawn.

Offsets are days before the shop's first unfinished business day: 1 is yesterday, negative ones lie ahead.
"""

from dataclasses import dataclass, field
from typing import Literal

Week = tuple[float, float, float, float, float, float, float]  # Monday first; 1 is an ordinary day, 0 is closed

EVERY_DAY: Week = (0.85, 0.85, 0.9, 1.0, 1.2, 1.3, 0.9)
ONLINE_WEEK: Week = (1.2, 1.1, 1.05, 1.0, 0.9, 0.75, 1.0)
TWO_YEARS = 735


@dataclass(frozen=True)
class Stretch:
    """Some days in a row that were, or will be, unlike the others.

    ``offset`` is the first of the ``n_days`` days, in days before the first unfinished one.
    """

    kind: Literal["promotion", "closure", "event", "outage", "surprise"]
    offset: int
    n_days: int
    factor: float = 0.0  # sales are multiplied by it
    name: str = ""

    @property
    def announced(self) -> bool:
        """Whether the shop wrote it into its calendar; an outage or a surprise nobody saw coming."""
        return self.kind in {"promotion", "closure", "event"}


@dataclass(frozen=True)
class Shop:
    """One shop of the demo and the law that its sales follow."""

    name: str
    time_zone: str
    country: str
    currency: str
    language: Literal["es", "en"]
    note: str  # what is special about it, for the demo's table
    daily: float  # currency on an ordinary day of the first year
    tickets: float  # sales on an ordinary day
    products: tuple[str, ...]
    hours: tuple[float, float]  # opening hours after midnight; over 24 is the next calendar day
    cutoff_hour: int = 0
    days: int = TWO_YEARS  # of history
    week: Week = EVERY_DAY
    year_swing: float = 0.05  # how far the best season lies above the yearly mean, as a share
    year_peak: int = 350  # day of the year with the best season
    growth: float = 0.03  # per year
    noise: float = 0.10  # day-to-day, standard deviation of the logarithm
    shift: tuple[int, float] | None = None  # (offset, factor): from that day on everything is `factor` times as much
    stretches: tuple[Stretch, ...] = ()
    refund_share: float = 0.0  # of tickets that come back within a few days
    writes_utc: bool = False  # times in the file carry an offset
    messy: bool = False  # the file is full of rows that are no sales
    closed_weekdays: frozenset[int] = field(init=False, default_factory=frozenset)

    def __post_init__(self) -> None:
        closed = frozenset(day for day, factor in enumerate(self.week) if factor == 0)
        object.__setattr__(self, "closed_weekdays", closed)


def _yearly(kind: Literal["promotion", "event"], offset: int, n_days: int, factor: float, name: str) -> list[Stretch]:
    """The same stretch this year (perhaps still ahead) and the two years before."""
    return [Stretch(kind, offset + 364 * year, n_days, factor, name) for year in range(3)]


SHOPS: tuple[Shop, ...] = (
    Shop(
        "Panadería La Espiga", "Europe/Madrid", "ES", "EUR", "es", "closed on Sundays",
        daily=640, tickets=14, products=("barra", "croissant", "empanada", "tarta"), hours=(7, 20),
        week=(0.9, 0.9, 0.95, 1.0, 1.15, 1.5, 0.0), noise=0.08,
        stretches=(
            Stretch("closure", 110, 12, name="Vacaciones"),
            Stretch("closure", 474, 12, name="Vacaciones"),
            Stretch("closure", -9, 1, name="Fiesta local"),
        ),
    ),
    Shop(
        "Bar Medianoche", "Europe/Madrid", "ES", "EUR", "es", "closes at 04:00: that is still the night before",
        daily=980, tickets=13, products=("caña", "copa", "tapa", "bocadillo"), hours=(19, 28), cutoff_hour=5,
        week=(0.0, 0.6, 0.7, 1.0, 1.7, 2.0, 0.8), noise=0.13,
    ),
    Shop(
        "Northside Bikes", "Europe/London", "GB", "GBP", "en", "promotions, one of them ahead",
        daily=1450, tickets=8, products=("helmet", "tyre", "service", "bike"), hours=(9.5, 18),
        week=(0.7, 0.7, 0.8, 0.9, 1.1, 1.8, 1.0), year_swing=0.30, year_peak=160, noise=0.14,
        stretches=tuple(Stretch("promotion", offset, 4, 1.8, "Bike days") for offset in range(-10, 700, 56)),
    ),
    Shop(
        "Electrónica Rápida", "America/Mexico_City", "MX", "MXN", "es", "many refunds",
        daily=18500, tickets=9, products=("cable", "funda", "audífonos", "cargador"), hours=(10, 20), noise=0.12,
        refund_share=0.07, stretches=tuple(_yearly("promotion", 2, 4, 1.9, "El Buen Fin")),
    ),
    Shop(
        "Corner Market", "America/New_York", "US", "USD", "en", "sells a third more since a level shift",
        daily=2300, tickets=12, products=("coffee", "sandwich", "fruit", "soda"), hours=(6, 22), noise=0.07,
        shift=(96, 1.35), stretches=(Stretch("surprise", 24, 1, 2.4),),
    ),
    Shop(
        "Farmacia del Puerto", "America/Santiago", "CL", "CLP", "es", "four days lost to an outage",
        daily=890000, tickets=11, products=("analgésico", "crema", "vitaminas"), hours=(9, 21), noise=0.09,
        week=(1.1, 1.05, 1.05, 1.0, 1.1, 0.8, 0.6), stretches=(Stretch("outage", 41, 4),),
    ),
    Shop(
        "Juice Five", "Australia/Sydney", "AU", "AUD", "en", "opened five days ago",
        daily=420, tickets=12, products=("orange", "green", "berry"), hours=(8, 17), days=5,
    ),
    Shop(
        "Bazar <b>Ñandú</b> 🎉", "America/Lima", "PE", "PEN", "es", "a file full of garbage rows",
        daily=760, tickets=5, products=("lámpara", "<script>alert(1)</script>", "juego"), hours=(10, 21), days=240,
        messy=True,
    ),
    Shop(
        "Wool & Needle Online", "UTC", "DE", "EUR", "en", "an online shop that grows",
        daily=520, tickets=8, products=("merino", "cotton", "needles", "kit"), hours=(0, 24), week=ONLINE_WEEK,
        growth=0.75, noise=0.12, writes_utc=True,
        stretches=tuple(_yearly("promotion", -6, 4, 1.9, "Black Friday week")),
    ),
    Shop(
        "Heladería Polar", "America/Argentina/Buenos_Aires", "AR", "ARS", "es", "ice cream: a strong season",
        daily=310000, tickets=10, products=("cucurucho", "cuarto", "kilo"), hours=(12, 24),
        week=(0.75, 0.75, 0.8, 0.9, 1.15, 1.45, 1.3), year_swing=0.75, year_peak=15, noise=0.15,
    ),
    Shop(
        "Boutique Alba", "Europe/Lisbon", "PT", "EUR", "en", "sells on some days only",
        daily=130, tickets=0.8, products=("dress", "scarf", "ring"), hours=(11, 19), noise=0.25,
        week=(0.6, 0.6, 0.8, 1.0, 1.3, 1.8, 0.0),
    ),
    Shop(
        "Kiosco Nuevo", "America/Montevideo", "UY", "UYU", "es", "has not sold anything yet",
        daily=0, tickets=0, products=(), hours=(8, 20), days=0,
    ),
)  # fmt: skip
