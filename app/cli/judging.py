"""`backtest`: how good are the forecasts on past days of a file?"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from app.cli.output import emit, examples, plain, progress_bar, table, to_json
from app.cli.session import session_of
from app.errors import ConfigError, InvalidFile

STDOUT = "-"
DATA_SUFFIXES = (".csv", ".gz")  # `--json data.csv` must not write over somebody's data
WORST_SHOWN = 10
FAILED = 1
MEASURES = {
    "mase": "MASE (below 1 beats last week's same weekday on its own past)",
    "rmsse": "RMSSE",
    "wape": "WAPE (error as a share of all sales)",
    "smape": "sMAPE",
    "sql": "scaled quantile loss (forecast and band together)",
    "coverage_80": "days inside the 80 % band",
    "coverage_95": "days inside the 95 % band",
    "coverage_80_total_7": "7-day totals inside their 80 % band",
    "coverage_95_total_7": "7-day totals inside their 95 % band",
    "coverage_80_total_28": "28-day totals inside their 80 % band",
    "coverage_95_total_28": "28-day totals inside their 95 % band",
    "error_total_7": "error of 7-day totals, as a share of an average week",
    "bias_total_7": "bias of 7-day totals, likewise (above 0: too much)",
    "error_total_28": "error of 28-day totals, as a share of four average weeks",
    "bias_total_28": "bias of 28-day totals, likewise (above 0: too much)",
    "share_worse_than_snaive": "windows clearly worse than seasonal naive",
    "share_of_series_worse_than_snaive": "series clearly worse than seasonal naive, all windows together",
    "cpu_seconds_per_window": "CPU seconds per series and window",
}

WEEKLY = {
    "mase": "MASE",
    "sql": "sQL",
    "coverage_80": "in 80 % band",
    "coverage_95": "in 95 % band",
    "compared": "compared anew",
    "cpu_seconds_per_window": "CPU s",
    "on_demand_cpu_seconds": "CPU s on demand",
    "artifact_bytes": "bytes of the model",
}


class OptionalFileCommand(TyperCommand):
    """A command whose ``--json`` takes a file, or nothing (or ``-``) for stdout."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--json") if "--json" in args else None
        if at is not None and (at + 1 == len(args) or args[at + 1].startswith("--")):
            args = [*args[: at + 1], STDOUT, *args[at + 1 :]]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command(
        "backtest",
        cls=OptionalFileCommand,
        epilog=examples(
            "tenantcast backtest sales_per_day.csv --horizon 28 --windows 3",
            "tenantcast backtest sales_per_day.csv.gz --countries countries.csv --jobs 2 --json out.json",
            "tenantcast backtest sales_per_day.csv --weeks 4",
            "tenantcast backtest sales_per_day.csv --json - | jq .pooled",
        ),
    )(backtest)


def backtest(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CSV", help="Columns unique_id,ds,y.", show_default=False)],
    *,
    horizon: Annotated[int, typer.Option(min=1, max=365, help="Days ahead.")] = 28,
    windows: Annotated[int, typer.Option(min=1, max=52, help="Past origins per series, one horizon apart.")] = 3,
    weeks: Annotated[
        int, typer.Option(min=1, max=52, help="Weekly runs per window: the first compares all candidates.")
    ] = 1,
    countries: Annotated[
        Path | None, typer.Option(help="CSV with unique_id,country (ISO 3166) for public holidays.")
    ] = None,
    global_model: Annotated[
        bool, typer.Option("--global-model", help="Let all series teach one model; as ML_GLOBAL_MODEL=true does.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    json_out: Annotated[
        str | None,
        typer.Option("--json", metavar="[FILE]", help="Write the result to FILE; alone or as -, to stdout."),
    ] = None,
) -> None:
    """Judge the forecasts on past days: refit at each origin through exactly the code that the worker runs.

    With --weeks each series is forecast for some weeks from each origin as by the worker: the stored model is gone on
    with, and all candidates are compared anew when it is due. Four weeks say what operation costs and reaches.

    Ends with 1 when a window failed; the others are judged all the same.
    """
    from app.services.ml.evaluate import evaluate

    check_target(json_out, file)
    settings = session_of(ctx).ml_settings
    if global_model:
        settings = settings.model_copy(update={"global_model": True})
    places = None if countries is None else read_countries(countries)
    with progress_bar("Backtesting") as advance:
        result = evaluate(
            file,
            horizon,
            windows,
            settings,
            places,
            weeks=weeks,
            jobs=jobs,
            progress=lambda done, total: advance(done, total, ""),
        )
    if json_out and json_out != STDOUT:
        Path(json_out).write_text(to_json(result) + "\n", encoding="utf-8")

    def show(console: Console) -> None:
        print_backtest(console, result)
        if json_out:
            console.print(f"Written to {plain(json_out)}", soft_wrap=True)

    emit(json_out == STDOUT, result, show)
    if result["pooled"]["failed"]:
        raise typer.Exit(FAILED)


def check_target(json_out: str | None, file: Path) -> None:
    """Refuse to write over data or into a directory that is not there, before hours of computing."""
    if not json_out or json_out == STDOUT:
        return
    target = Path(json_out)
    if target.suffix in DATA_SUFFIXES or target.absolute() == file.absolute():
        raise ConfigError(f"--json would write over {json_out}.", next_step="Name a .json file, or - for stdout.")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{target.parent} is no directory.", next_step="Make it, or name another file for --json.")


def read_countries(path: Path) -> dict[str, str]:
    """Country by series, from a CSV with the columns unique_id,country. Raises InvalidFile."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            if not {"unique_id", "country"} <= set(reader.fieldnames or []):
                raise InvalidFile(f"{path.name} needs the columns unique_id,country.", next_step="Name them in line 1.")
            return {row["unique_id"]: (row["country"] or "").strip() for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(f"{path.name} cannot be read: {error}.", next_step="Give a CSV file in UTF-8.") from error


def print_backtest(console: Console, result: dict[str, Any]) -> None:
    """The pooled measures in words, then the series that were forecast worst."""
    pooled = result["pooled"]
    title = f"{pooled['windows']} windows of {pooled['series']} series, {pooled['failed']} failed"
    rows = [(words, _figure(name, pooled[name])) for name, words in MEASURES.items()]
    console.print(table(title, ("measure", "value"), rows, right=("value",)))
    if "weeks" in result:
        print_weeks(console, result["weeks"])
    if reason := result.get("global_model", {}).get("no_network"):
        console.print(plain(f"global_lstm was left out. {reason}"), soft_wrap=True)
    judged = [one for one in result["series"] if one["mase"] is not None]
    worst = sorted(judged, key=lambda one: -one["mase"])[:WORST_SHOWN]
    cells = [(one["unique_id"], f"{one['mase']:.3f}", f"{one['wape']:.1%}", _chosen(one["chosen"])) for one in worst]
    console.print(table("Worst forecast", ("series", "MASE", "WAPE", "chosen"), cells, right=("MASE", "WAPE")))


def print_weeks(console: Console, weeks: Sequence[dict[str, Any]]) -> None:
    """Week by week what the forecasts reached and cost."""
    rows = [[str(week["week"]), *(_figure(name, week[name]) for name in WEEKLY)] for week in weeks]
    console.print(table("Week by week", ("week", *WEEKLY.values()), rows, right=tuple(WEEKLY.values())))


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "artifact_bytes":
        return f"{value:.0f}"
    is_share = name.startswith(("coverage", "share", "wape", "compared", "error", "bias"))
    return f"{value:.1%}" if is_share else f"{value:.3f}"


def _chosen(chosen: object) -> str:
    return ", ".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen)
