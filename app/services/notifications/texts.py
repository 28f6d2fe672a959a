"""Every sentence of the messages, in English and in Spanish. Values come in localised, by `str.format`.

The two halves have the same keys and the same placeholders; a test holds them together.
"""

from app.services.report.formats import Language

TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "forecast_ready.title": "New forecast: about {total} in the next {n} days",
        "forecast_ready.body": "{day}: about {yhat}, most likely between {lower} and {upper}.",
        "forecast_ready.change": "That is {percent} {direction} than thought before for the same days.",
        "anomaly.title": "Unusual day: {day}",
        "anomaly.body": "Sales were {y}; about {expected} were to be expected.",
        "high_error.title": "The forecast is off by {error} on average",
        "high_error.body": (
            "That is more than {limit}. Look at the days it was wrong about: closures and promotions that are entered "
            "ahead in the calendar make it better."
        ),
        "sales_drop.title": "Sales are down by {percent}",
        "sales_drop.body": "The last 7 days brought {recent}; a usual week of the four before brought {usual}.",
        "low_stock.title": "{product} runs out around {day}",
        "low_stock.gone": "{product} is out of stock",
        "low_stock.low": "{product} is low: {stock} left",
        "low_stock.body": "In stock: {stock}. Lately about {rate} a day were sold.",
        "data_stopped.title": "No sales since {day}",
        "data_stopped.body": (
            "Nothing has come in for {n} days, longer than ever lately ({usual}). If the shop was open, look at what "
            "sends us the sales."
        ),
        "daily_summary.title": "{day}: sales of {sales}",
        "daily_summary.none": "{day}: no sales",
        "daily_summary.usual": "{percent} {direction} than on the last four {weekdays} ({usual}).",
        "daily_summary.today": "Today: about {yhat}, most likely between {lower} and {upper}.",
        "daily_summary.stock": "Runs out within a week: {products}.",
        "digest.title": "{n} more messages since the last summary",
        "digest.body": "There was more than fits into single messages. All of them are in the app:",
        "digest.line": "{name}: {n}",
        "name.forecast_ready": "new forecast",
        "name.anomaly": "unusual day",
        "name.high_error": "inaccurate forecast",
        "name.sales_drop": "drop in sales",
        "name.low_stock": "low stock",
        "name.data_stopped": "no data",
        "name.daily_summary": "daily summary",
        "name.digest": "digest",
        "more": "more",
        "less": "less",
        "a_product": "A product",
    },
    "es": {
        "forecast_ready.title": "Nuevo pronóstico: unos {total} en los próximos {n} días",
        "forecast_ready.body": "{day}: unos {yhat}, lo más probable entre {lower} y {upper}.",
        "forecast_ready.change": "Es un {percent} {direction} de lo que se pensaba antes para esos días.",
        "anomaly.title": "Día inusual: {day}",
        "anomaly.body": "Se vendió {y}; se esperaban unos {expected}.",
        "high_error.title": "El pronóstico se desvía un {error} de media",
        "high_error.body": (
            "Es más de {limit}. Mire los días en los que falló: los cierres y las promociones anotados con antelación "
            "en el calendario lo mejoran."
        ),
        "sales_drop.title": "Las ventas han bajado un {percent}",
        "sales_drop.body": (
            "Los últimos 7 días trajeron {recent}; una semana normal de las cuatro anteriores, {usual}."
        ),
        "low_stock.title": "{product} se agotará hacia el {day}",
        "low_stock.gone": "{product} está agotado",
        "low_stock.low": "Queda poco de {product}: {stock}",
        "low_stock.body": "Existencias: {stock}. Últimamente se vendieron unos {rate} al día.",
        "data_stopped.title": "Sin ventas desde el {day}",
        "data_stopped.body": (
            "No ha llegado nada en {n} días, más que nunca últimamente ({usual}). Si el negocio estuvo abierto, revise "
            "lo que nos envía las ventas."
        ),
        "daily_summary.title": "{day}: ventas de {sales}",
        "daily_summary.none": "{day}: sin ventas",
        "daily_summary.usual": "Un {percent} {direction} que en los cuatro últimos {weekdays} ({usual}).",
        "daily_summary.today": "Hoy: unos {yhat}, lo más probable entre {lower} y {upper}.",
        "daily_summary.stock": "Se agotan en una semana: {products}.",
        "digest.title": "{n} mensajes más desde el último resumen",
        "digest.body": "Hubo más de lo que cabe en mensajes sueltos. Todos están en la aplicación:",
        "digest.line": "{name}: {n}",
        "name.forecast_ready": "nuevo pronóstico",
        "name.anomaly": "día inusual",
        "name.high_error": "pronóstico impreciso",
        "name.sales_drop": "caída de ventas",
        "name.low_stock": "pocas existencias",
        "name.data_stopped": "sin datos",
        "name.daily_summary": "resumen diario",
        "name.digest": "resumen",
        "more": "más",
        "less": "menos",
        "a_product": "Un producto",
    },
}


def say(language: Language, key: str, **values: str) -> str:
    """One sentence with its values put in."""
    return TEXTS[language][key].format(**values)


def name_of(language: Language, kind: str) -> str:
    """A kind of message in words; one that is not ours by its own name."""
    return TEXTS[language].get(f"name.{kind}", kind)
