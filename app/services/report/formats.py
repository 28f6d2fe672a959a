"""Money, numbers and days the way the tenant writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, get_args

Language = Literal["en", "es"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

# Unicode CLDR: symbols as used inside the country, number of decimals where it is not two.
SYMBOLS = {
    "EUR": "€", "USD": "$", "GBP": "£", "MXN": "$", "ARS": "$", "CLP": "$", "COP": "$", "UYU": "$", "PEN": "S/",
    "BRL": "R$", "JPY": "¥", "AUD": "$", "CAD": "$", "NZD": "$", "INR": "₹", "BOB": "Bs", "CRC": "₡", "GTQ": "Q",
}  # fmt: skip
WHOLE_UNITS = frozenset({"CLP", "JPY", "KRW", "PYG", "VND", "ISK"})
CENTS_BELOW = 20  # sales of an ordinary day; from here on cents say nothing
DASH = "\N{EN DASH}"
# Countries that write Spanish with a decimal point; the others use a decimal comma.
POINT_COUNTRIES = frozenset({"MX", "PE", "GT", "HN", "NI", "SV", "PA", "DO", "PR", "US"})

WEEKDAYS: dict[Language, tuple[str, ...]] = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}
MONTHS: dict[Language, tuple[str, ...]] = {
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
    "es": (
        "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
        "diciembre",
    ),
}  # fmt: skip


def language_of(text: str | None) -> Language:
    """The language of the page's words: Spanish for any kind of Spanish, else English."""
    return "es" if (text or "").lower().startswith("es") else "en"


@dataclass(frozen=True)
class Locale:
    """How one tenant writes things. ``country`` is an ISO 3166 code, a subdivision behind a dash is ignored."""

    language: Language
    currency: str = ""
    country: str = ""
    cents: bool = False  # amounts with decimals, if the currency has any

    @property
    def decimal_comma(self) -> bool:
        return self.language == "es" and self.country.partition("-")[0].upper() not in POINT_COUNTRIES

    def number(self, value: float, decimals: int = 0) -> str:
        """``1234.5`` as "1,234.5" or "1.234,5"; a true minus sign; never "-0"."""
        text = f"{abs(value):,.{decimals}f}"
        if self.decimal_comma:
            text = text.translate(str.maketrans(",.", ".,"))
        negative = value < 0 and any(digit in text for digit in "123456789")
        return f"\N{MINUS SIGN}{text}" if negative else text

    def money(self, value: float) -> str:
        """An amount with its currency: "€1,234", "1.234 €", "S/ 12.50"."""
        text = self.number(value, 2 if self.cents and self.currency not in WHOLE_UNITS else 0)
        symbol = SYMBOLS.get(self.currency, self.currency)
        if not symbol:
            return text
        sign, digits = ("\N{MINUS SIGN}", text[1:]) if text.startswith("\N{MINUS SIGN}") else ("", text)
        if self.language == "es" and self.currency == "EUR":
            return f"{text}\N{NO-BREAK SPACE}{symbol}"
        gap = "\N{NO-BREAK SPACE}" if symbol[-1:].isalpha() or symbol == "S/" else ""
        return f"{sign}{symbol}{gap}{digits}"

    def percent(self, share: float) -> str:
        """A share in 0..1 as a percentage: "12%", in Spanish "12 %"."""
        gap = "\N{NO-BREAK SPACE}" if self.language == "es" else ""
        return f"{self.number(100 * share)}{gap}%"

    def day(self, day: date) -> str:
        """Short: "Sat 21 Nov", "sáb 21 nov"."""
        return f"{self.weekday(day)[:3]} {day.day} {self.month(day)[:3]}"

    def long_day(self, day: date) -> str:
        """In full: "Saturday 21 November 2026", "sábado 21 de noviembre de 2026"."""
        of = " de " if self.language == "es" else " "
        return f"{self.weekday(day)} {day.day}{of}{self.month(day)}{of}{day.year}"

    def weekday(self, day: date) -> str:
        return WEEKDAYS[self.language][day.weekday()]

    def month(self, day: date) -> str:
        return MONTHS[self.language][day.month - 1]


def locale_of(tenant: Mapping[str, Any], *, typical: float) -> Locale:
    """How the tenant writes things; cents only where a typical day's sales are small."""
    return Locale(
        language=language_of(tenant.get("language")),
        currency=tenant.get("currency") or "",
        country=tenant.get("country") or "",
        cents=abs(typical) < CENTS_BELOW,
    )
