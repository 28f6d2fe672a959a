"""The data-quality report in sentences, English and Spanish, for people who keep a shop and not a database."""

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.services.ml.quality import DataQuality, Span

LANGUAGES = ("en", "es")

REASONS: dict[str, tuple[str, str]] = {
    "no_tenant": ("no business is named", "no se indica el negocio"),
    "invalid_tenant": ("the name of the business cannot be used", "el nombre del negocio no es válido"),
    "no_amount": ("the amount is missing", "falta el importe"),
    "not_a_number": ("the amount is not a number", "el importe no es un número"),
    "not_finite": ("the amount is not a finite number", "el importe no es un número finito"),
    "absurd_amount": ("the amount is beyond all sense", "el importe es disparatado"),
    "no_date": ("the date is missing", "falta la fecha"),
    "unreadable_date": ("the date cannot be read", "la fecha no se entiende"),
    "absurd_date": ("the date lies outside 1900 to 2200", "la fecha queda fuera de 1900 a 2200"),
    "wrong_columns": ("the row has too few or too many columns", "la fila tiene columnas de más o de menos"),
    "unclosed_quote": ("a quotation mark is never closed", "hay unas comillas sin cerrar"),
    "invalid_encoding": ("the row is not valid text", "la fila no es texto válido"),
    "line_too_long": ("the line is longer than a megabyte", "la línea pasa de un megabyte"),
    "nul_character": ("the row holds a NUL character", "la fila contiene un carácter NUL"),
    "text_too_long": ("a name is longer than 200 characters", "un nombre pasa de 200 caracteres"),
    "repeated_id": ("the sale's id occurs twice in the file", "el identificador de la venta se repite en el archivo"),
}
WEEKDAYS = {
    "en": ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"),
    "es": ("los lunes", "los martes", "los miércoles", "los jueves", "los viernes", "los sábados", "los domingos"),
}
MONTHS = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "es": ("ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"),
}
# Keys are shared; {n} is a count. The second form is the plural.
WORDS: dict[str, dict[str, tuple[str, str]]] = {
    "en": {
        "none": ("No sales yet.", ""),
        "days": (
            "{n} day of sales, {start}, from {rows} rows.",
            "{n} days of sales, from {start} to {end}, from {rows} rows.",
        ),
        "window": ("One older day was not read.", "{n} older days were not read."),
        "stale": (
            "The sales stop on {end}: has the feed broken? The forecast starts after that day.",
            "",
        ),
        "closed": ("Closed on {days}.", ""),
        "outage": (
            "No sales from {start} to {end}, though {n} of these days are normally open. Closed, or data missing?",
            "",
        ),
        "gaps": (
            "{n} other open day without sales counts as zero.",
            "{n} other open days without sales count as zero.",
        ),
        "duplicates": (
            "One row repeats another exactly; it is counted as a sale.",
            "{n} rows repeat others exactly; they are counted as sales.",
        ),
        "refunds": ("One refund was taken off.", "{n} refunds were taken off."),
        "negative": ("On one day refunds exceed sales.", "On {n} days refunds exceed sales."),
        "future": ("One row lies in the future and was left out.", "{n} rows lie in the future and were left out."),
        "left_out": ("One row was left out: {reason}{where}.", "{n} rows were left out: {reason}{where}."),
        "where": (" ({source}, line {line})", " ({source}, first in line {line})"),
        "invalid_time_zone": ("The business's time zone is unknown; its days were cut in UTC.", ""),
        "invalid_cutoff_hour": ("The business's closing hour is not 0 to 23; its days were cut at midnight.", ""),
    },
    "es": {
        "none": ("Todavía no hay ventas.", ""),
        "days": (
            "{n} día de ventas, {start}, de {rows} filas.",
            "{n} días de ventas, del {start} al {end}, de {rows} filas.",
        ),
        "window": ("Un día anterior no se ha leído.", "{n} días anteriores no se han leído."),
        "stale": (
            "Las ventas se detienen el {end}: ¿se ha roto la conexión? La previsión empieza después de ese día.",
            "",
        ),
        "closed": ("Cierra {days}.", ""),
        "outage": (
            "Sin ventas del {start} al {end}, aunque {n} de esos días suele abrir. ¿Estuvo cerrado o faltan datos?",
            "",
        ),
        "gaps": (
            "{n} día más de apertura sin ventas cuenta como cero.",
            "{n} días más de apertura sin ventas cuentan como cero.",
        ),
        "duplicates": (
            "Una fila repite otra exactamente; cuenta como venta.",
            "{n} filas repiten otras exactamente; cuentan como ventas.",
        ),
        "refunds": ("Se ha descontado una devolución.", "Se han descontado {n} devoluciones."),
        "negative": (
            "Un día las devoluciones superan a las ventas.",
            "{n} días las devoluciones superan a las ventas.",
        ),
        "future": (
            "Una fila está en el futuro y se ha dejado fuera.",
            "{n} filas están en el futuro y se han dejado fuera.",
        ),
        "left_out": (
            "Se ha dejado fuera una fila: {reason}{where}.",
            "Se han dejado fuera {n} filas: {reason}{where}.",
        ),
        "where": (" ({source}, línea {line})", " ({source}, la primera en la línea {line})"),
        "invalid_time_zone": ("No se conoce la zona horaria del negocio; sus días se han cortado en UTC.", ""),
        "invalid_cutoff_hour": (
            "La hora de cierre del negocio no está entre 0 y 23; sus días se han cortado a medianoche.",
            "",
        ),
    },
}


def reason_text(reason: str, language: str = "en") -> str:
    """Why a row was left out, in words; an unknown code is shown as it is."""
    texts = REASONS.get(reason)
    return texts[_index(language)] if texts else reason


def sentences(quality: "DataQuality", language: str = "en") -> list[str]:
    """The report in sentences, the most important first; an unknown language is English."""
    words = WORDS[LANGUAGES[_index(language)]]
    if not quality["days"]:
        return [words["none"][0], *_left_out(quality, language), *_notes(quality, words)]
    outage_days = sum(span["days"] for span in quality["suspected_outages"])
    found = [
        _say(words["days"], quality["days"], **_span(quality, language), rows=quality["rows"]),
        _say(words["stale"], 1, **_span(quality, language)) if quality["stale"] else "",
        *(_say(words["outage"], span["days"], **_span(span, language)) for span in quality["suspected_outages"]),
        _closed(quality, language),
        _say(words["gaps"], max(quality["zero_days"] - outage_days, 0)),
        *_left_out(quality, language),
        _say(words["future"], quality["future_rows"]),
        _say(words["duplicates"], quality["duplicates"]),
        _say(words["refunds"], quality["refunds"]),
        _say(words["negative"], quality["negative_days"]),
        _say(words["window"], quality["days_before_window"]),
        *_notes(quality, words),
    ]
    return [sentence for sentence in found if sentence]


def _index(language: str) -> int:
    return 1 if language.casefold().startswith("es") else 0


def _say(forms: tuple[str, str], n: int, **values: object) -> str:
    """The form for the count; nothing for a count of zero."""
    return forms[1 if n > 1 and forms[1] else 0].format(n=n, **values) if n else ""


def _closed(quality: "DataQuality", language: str) -> str:
    code = LANGUAGES[_index(language)]
    names = [WEEKDAYS[code][day] for day in quality["closed_weekdays"]]
    if not names:
        return ""
    last = f" {('and', 'y')[_index(language)]} ".join(([", ".join(names[:-1])] if names[:-1] else []) + names[-1:])
    return WORDS[code]["closed"][0].format(days=last)


def _left_out(quality: "DataQuality", language: str) -> list[str]:
    words = WORDS[LANGUAGES[_index(language)]]
    said = []
    for row in quality["left_out"]:
        line = row["first_line"]
        where = _say(words["where"], row["rows"], source=row["source"], line=line) if line is not None else ""
        said.append(_say(words["left_out"], row["rows"], reason=reason_text(row["reason"], language), where=where))
    return said


def _notes(quality: "DataQuality", words: dict[str, tuple[str, str]]) -> list[str]:
    return [words[note][0] for note in quality["notes"] if note in words]


def _span(days: "Span | DataQuality", language: str) -> dict[str, str]:
    """First and last day as people write them: 3 Mar 2026, 3 mar 2026."""
    months = MONTHS[LANGUAGES[_index(language)]]
    written = {}
    for key, text in (("start", days["start"]), ("end", days["end"])):
        day = date.fromisoformat(text or "")
        written[key] = f"{day.day} {months[day.month - 1]} {day.year}"
    return written
