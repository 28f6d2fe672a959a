"""What the engine has to say about a forecast, as codes with values: stored so, said in the reader's language.

`__str__` is the English sentence, for logs and the command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Of each either one form, or one for an `n` of 1 and one for any other.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "short_history": (
            "Short history: one day. The forecast becomes better with every week.",
            "Short history: {n} days. The forecast becomes better with every week.",
        ),
        "quiet_days": (
            (
                "No sales for {n} days: the forecast is zero for as many more, and then as before. If the shop was "
                "closed or the sales did not arrive, enter the closure in the calendar or check the import."
            ),
        ),
        "level_shift": (
            "Sales changed by {change} {n} days ago and stayed so: earlier days were converted to the level of today.",
        ),
        "rare_sales": (
            (
                "Nothing is sold on {idle} of the open days: a single day shows the usual day, a total what is sold on "
                "average, so the days do not add up to it."
            ),
        ),
        "huge_days": ("Days beyond {limit} were cut to that: check the sales for typing errors.",),
        "no_such_candidate": ("There is no candidate called {name!r}; it was left out.",),
        "no_such_country": ("{country!r} is unknown: the forecast was made without public holidays. {hint}",),
        "country_missing": (
            "No country is set: no public holidays are known. Sales are odd on those of {country}: is it there?",
        ),
        "country_doubtful": (
            "The public holidays of {given} do not show in the sales, those of {country} do: is the country right?",
        ),
        "candidate_failed": ("{method} failed and took no part.",),
        "no_global_model": ("There is no global model yet; the forecast was made without it.",),
        "no_network": ("The global model has no neural part yet; the forecast was made without it.",),
        "global_model_refused": ("The global model could not be verified; the forecast was made without it.",),
        "global_model_newer": (
            "The global model has seen other tenants' sales through {day}, after the last sale here; it was left out.",
        ),
        "global_model_old": (
            "The global model is one day old, which is too old; it was left out.",
            "The global model is {n} days old, which is too old; it was left out.",
        ),
        "candidate_hung": ("{method} hung in the attempt before and was left out of this forecast.",),
        "unreadable_calendar": (
            "One row of the calendar cannot be read and was left out.",
            "{n} rows of the calendar cannot be read and were left out.",
        ),
        "promotions": (
            "Promotions sold {change} beside usual days (one past day, cautiously); announced days ahead: {ahead}.",
            "Promotions sold {change} beside usual days ({n} past days); announced days ahead: {ahead}.",
        ),
        "promotions_unmeasured": (
            "A promotion day is announced, but no past one can be measured: it is forecast like a usual day.",
            "{n} promotion days are announced, but no past one can be measured: they are forecast like usual days.",
        ),
        "chosen_floor": (
            "Last week's pattern beat the combined forecast on past weeks ({metric} {floor} against {blend}).",
        ),
        "chosen_only": ("{method} was the only method that could be tested on past weeks ({metric} {error}).",),
        "chosen_single": ("{method} had the smallest error of {n} methods on past weeks ({metric} {error}).",),
        "chosen_blend": ("A blend weighted by accuracy, of {n} methods compared on past weeks: {shares}.",),
        "too_short_to_compare": (
            "One day of sales is too little to compare methods: {method} by rule.",
            "{n} days of sales are too few to compare methods: {method} by rule.",
        ),
        "nothing_usable": ("No method could be used: {method} by rule.",),
    },
    "es": {
        "short_history": (
            "Historia corta: un día. La previsión mejora con cada semana.",
            "Historia corta: {n} días. La previsión mejora con cada semana.",
        ),
        "quiet_days": (
            (
                "Sin ventas desde hace {n} días: la previsión es cero para otros tantos, y después como antes. Si la "
                "tienda estuvo cerrada o las ventas no llegaron, anota el cierre en el calendario o revisa la "
                "importación."
            ),
        ),
        "level_shift": (
            "Las ventas cambiaron un {change} hace {n} días y siguen así: lo anterior se ha pasado al nivel de hoy.",
        ),
        "rare_sales": (
            (
                "En el {idle} de los días abiertos no se vende nada: los días sueltos son el día habitual y el total "
                "es lo que se vende de media, así que los días no suman el total."
            ),
        ),
        "huge_days": ("Los días por encima de {limit} se han recortado: comprueba que no haya ventas mal tecleadas.",),
        "no_such_candidate": ("No hay ningún método llamado {name!r}; se ha dejado fuera.",),
        "no_such_country": ("No se conoce {country!r}: la previsión se ha hecho sin festivos.",),
        "country_missing": (
            "No hay país, y así no se conocen los festivos. Las ventas cambian en los de {country}: ¿es su país?",
        ),
        "country_doubtful": (
            "Los festivos de {given} no se notan en las ventas y los de {country} sí: ¿es correcto el país?",
        ),
        "candidate_failed": ("El método «{method}» falló y no participó.",),
        "no_global_model": ("Aún no hay modelo global; la previsión se ha hecho sin él.",),
        "no_network": ("El modelo global aún no tiene parte neuronal; la previsión se ha hecho sin ella.",),
        "global_model_refused": ("El modelo global no se pudo verificar; la previsión se ha hecho sin él.",),
        "global_model_newer": (
            "El modelo global conoce ventas de otros hasta el {day}, posteriores a las de aquí; se ha dejado fuera.",
        ),
        "global_model_old": (
            "El modelo global tiene un día, demasiado; se ha dejado fuera.",
            "El modelo global tiene {n} días, demasiados; se ha dejado fuera.",
        ),
        "candidate_hung": ("El método «{method}» se quedó colgado en el intento anterior: esta previsión va sin él.",),
        "unreadable_calendar": (
            "Una fila del calendario no se entiende y se ha dejado fuera.",
            "{n} filas del calendario no se entienden y se han dejado fuera.",
        ),
        "promotions": (
            "Las promociones vendieron un {change} frente a lo normal (un día pasado); días anunciados: {ahead}.",
            "Las promociones vendieron un {change} frente a lo normal ({n} días pasados); días anunciados: {ahead}.",
        ),
        "promotions_unmeasured": (
            "Hay un día de promoción anunciado, pero ninguno pasado que medir: se prevé como un día normal.",
            "Hay {n} días de promoción anunciados, pero ninguno pasado que medir: se prevén como días normales.",
        ),
        "chosen_floor": (
            "Repetir la semana anterior acertó más que la mezcla al probarlo ({metric} {floor} frente a {blend}).",
        ),
        "chosen_only": ("«{method}» es el único método que se pudo probar en las últimas semanas ({metric} {error}).",),
        "chosen_single": (
            "«{method}» es el que menos falló de {n} métodos en las últimas semanas ({metric} {error}).",
        ),
        "chosen_blend": ("Mezcla según el acierto, de {n} métodos probados en las últimas semanas: {shares}.",),
        "too_short_to_compare": (
            "Un día de ventas no basta para comparar métodos: se usa «{method}».",
            "{n} días de ventas no bastan para comparar métodos: se usa «{method}».",
        ),
        "nothing_usable": ("Ningún método se pudo usar: se usa «{method}».",),
    },
}


@dataclass(frozen=True)
class Note:
    """A code of `WORDS` and the values of its sentence; ``n`` is a count, ``shares`` holds pairs of name and weight."""

    code: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return self.say("en")

    def say(self, language: str, method_name: Callable[[str], str] = str) -> str:
        """The sentence; ``method_name`` gives a candidate's name as the reader knows it."""
        values = dict(self.values)
        if "method" in values:
            values["method"] = method_name(values["method"])
        if "shares" in values:
            values["shares"] = ", ".join(f"{name} {share:.0%}" for name, share in values["shares"])
        forms = WORDS[language][self.code]
        return forms[0 if values.get("n") == 1 else -1].format(**values)

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; ``text`` is the English sentence, for readers that do not know the codes."""
        return {"code": self.code, "values": dict(self.values), "text": str(self)}


def note(code: str, **values: Any) -> Note:
    """A note with JSON-safe values."""
    return Note(code, values)


def say_stored(stored: Mapping[str, Any], language: str, method_name: Callable[[str], str] = str) -> str:
    """The sentence of a note that `Note.as_dict` wrote; its English where a newer version wrote a code unknown here."""
    if stored["code"] not in WORDS[language]:
        return str(stored["text"])
    return Note(stored["code"], stored["values"]).say(language, method_name)
