"""The demo's result as a table for the terminal, in words that a shop owner understands."""

from typing import TYPE_CHECKING, Literal

from app.services.demo.run import DemoResult, DemoRow
from app.services.report.formats import DASH
from app.services.report.words import say

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    (say("en", "shop"), "left"),
    (say("en", "next_n", n=7), "right"),
    (say("en", "next_n", n=28), "right"),
    (say("en", "change"), "right"),
    (say("en", "how_sure"), "left"),
    (say("en", "unusual"), "right"),
    (say("en", "note"), "left"),
)


def demo_table(result: DemoResult) -> "Table":
    """One line per shop: the next 7 and 28 days, the change, how sure, unusual days, what is special."""
    from rich.table import Table
    from rich.text import Text

    table = Table(pad_edge=False)
    for name, justify in COLUMNS:
        table.add_column(name, justify=justify, overflow="fold")
    for row in result.rows:
        # Text, not str: a shop's name may hold what rich would take for markup.
        table.add_row(*(Text(cell or DASH) for cell in _cells(row)))
    return table


def _cells(row: DemoRow) -> tuple[str, ...]:
    shown = row.summary
    sure = say("en", shown.sure) if shown.sure else ""
    note = f"{row.special} ({say('en', shown.note)})" if shown.note else row.special
    return row.shop, shown.next_7, shown.next_28, shown.change, sure, shown.unusual, note
