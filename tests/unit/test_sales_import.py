"""The import without a database: what becomes a sale, what is kept aside, and why."""

import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid5
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import ConfigError, InvalidFile, InvalidTenantId, NotInstalled
from app.services.sales_import import ImportOptions, ImportReport, import_file
from app.services.sales_import.keys import NAMESPACE
from app.services.sales_import.parsing import BadRow, parse_amount, parse_instant
from app.tenancy import parse_tenant_id

HEADER = "tenant_id,fecha,total,producto_id\n"
SHOP = parse_tenant_id("shop")
on_a_busy_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class FakeProduct:
    """The example product in memory: what `example_import_sales` and `ml_quarantine_rows` promise."""

    name = "fake"

    def __init__(self, tenants: list[dict[str, Any]] | None = None) -> None:
        self.tenants = {row["tenant_id"]: row for row in tenants or []}
        self.sales: dict[tuple[str, str], dict[str, Any]] = {}
        self.quarantine: dict[tuple[str, str, int], str] = {}
        self.calls: list[str] = []
        self.largest_call = 0

    def call(self, function: str, params: Mapping[str, object]) -> Any:
        json.dumps(
            {key: str(value) if key == "p_tenant_id" else value for key, value in params.items()}, allow_nan=False
        )
        self.calls.append(function)
        return getattr(self, function)(**params)

    def close(self) -> None:
        """Nothing is held."""

    def ml_list_tenants(self, p_after: str | None, p_limit: int) -> list[dict[str, Any]]:
        later = sorted(key for key in self.tenants if p_after is None or key > p_after)
        return [self.tenants[key] for key in later[:p_limit]]

    def example_import_sales(
        self, p_tenant_id: Any, p_tenant: dict[str, Any], p_rows: list[Any], p_dry_run: bool
    ) -> dict[str, int]:
        if p_dry_run:
            known = sum((str(p_tenant_id), row["sale_id"]) in self.sales for row in p_rows)
            return {"inserted": len(p_rows) - known, "known": known}
        tenant = self.tenants.setdefault(str(p_tenant_id), {"tenant_id": str(p_tenant_id)})
        tenant.update(p_tenant)
        before = len(self.sales)
        for row in p_rows:
            self.sales.setdefault((str(p_tenant_id), row["sale_id"]), row)
        self.largest_call = max(self.largest_call, len(p_rows))
        inserted = len(self.sales) - before
        return {"inserted": inserted, "known": len(p_rows) - inserted}

    def ml_quarantine_rows(self, p_tenant_id: Any, p_source: str, p_rows: list[Any], p_replace: bool) -> dict[str, int]:
        if p_replace:
            self.quarantine = {k: v for k, v in self.quarantine.items() if k[:2] != (str(p_tenant_id), p_source)}
        for row in p_rows:
            self.quarantine[str(p_tenant_id), p_source, row["line"]] = row["reason"]
        return {"quarantined": len(p_rows)}

    @property
    def total(self) -> Decimal:
        return sum((Decimal(row["amount"]) for row in self.sales.values()), Decimal(0))


def run(
    tmp_path: Path, content: str | bytes, product: FakeProduct | None = None, **options: Any
) -> tuple[ImportReport, FakeProduct]:
    path = tmp_path / "sales.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    product = product or FakeProduct()
    return import_file(path, product, ImportOptions(**options)), product


def reasons(report: ImportReport) -> dict[str, int]:
    return {row["reason"]: row["rows"] for row in report["reasons"]}


def test_a_row_becomes_a_sale_with_an_exact_amount_and_an_instant_in_utc(tmp_path: Path) -> None:
    report, product = run(tmp_path, HEADER + "shop,2026-07-01T10:15:00,38.70,latte\n", timezone="Europe/Madrid")

    (sale,) = product.sales.values()
    assert (sale["sold_at"], sale["amount"], sale["product_id"]) == ("2026-07-01T08:15:00+00:00", "38.7", "latte")
    assert product.tenants[str(SHOP)]["name"] == "shop"
    assert (report["rows"], report["accepted"], report["inserted"], report["quarantined"]) == (1, 1, 1, 0)


def test_the_key_is_a_uuid5_of_what_the_sale_says_and_its_occurrence(tmp_path: Path) -> None:
    _, product = run(tmp_path, HEADER + "shop,2026-07-01T10:15:00Z,38.70,latte\n" * 2)

    spelled = [f"{SHOP}\x1f2026-07-01T10:15:00+00:00\x1f38.7\x1flatte\x1f{n}" for n in (0, 1)]
    assert [key for _, key in product.sales] == [str(uuid5(NAMESPACE, text)) for text in spelled]


def test_importing_twice_changes_nothing_and_exact_duplicates_stay_separate(tmp_path: Path) -> None:
    content = HEADER + "shop,2026-07-01T10:15:00Z,5,a\n" * 3 + "shop,2026-07-01T10:15:00Z,5.00,a\n"
    first, product = run(tmp_path, content)

    second, _ = run(tmp_path, content, product)

    assert (first["inserted"], first["duplicates"], product.total) == (4, 3, Decimal(20))
    assert (second["inserted"], second["known"], len(product.sales)) == (0, 4, 4)


def test_a_longer_export_of_the_same_sales_adds_only_the_new_ones(tmp_path: Path) -> None:
    _, product = run(tmp_path, HEADER + "shop,2026-07-01T10:00:00Z,5,a\nshop,2026-07-02T10:00:00Z,6,a\n")

    report, _ = run(
        tmp_path,
        HEADER + "shop,2026-07-03T10:00:00Z,7,a\nshop,2026-07-02T10:00:00Z,6,a\nshop,2026-07-01T10:00:00Z,5,a\n",
        product,
    )

    assert (report["inserted"], report["known"], product.total) == (1, 2, Decimal(18))


def test_an_external_id_is_the_key_and_one_that_repeats_is_kept_aside(tmp_path: Path) -> None:
    content = "tenant_id,fecha,total,venta_id\n" + "".join(
        f"shop,2026-07-01T10:00:00Z,{total},{key}\n" for total, key in ((5, "T1"), (6, "T2"), (7, "T1"))
    )

    report, product = run(tmp_path, content)

    assert [key for _, key in product.sales] == ["T1", "T2"]
    assert reasons(report) == {"repeated_id": 1}
    assert product.quarantine == {(str(SHOP), "sales.csv", 4): "repeated_id"}


BAD_ROWS = [
    ("shop,2026-07-01T10:00:00Z,NaN,a", "not_finite"),
    ("shop,2026-07-01T10:00:00Z,-inf,a", "not_finite"),
    ("shop,2026-07-01T10:00:00Z,1e400,a", "absurd_amount"),
    ("shop,2026-07-01T10:00:00Z,1e-400,a", "absurd_amount"),
    ("shop,2026-07-01T10:00:00Z,doce,a", "not_a_number"),
    ("shop,2026-07-01T10:00:00Z,1_000,a", "not_a_number"),
    ("shop,2026-07-01T10:00:00Z,٣,a", "not_a_number"),
    ("shop,2026-07-01T10:00:00Z,\x00,a", "not_a_number"),
    ("shop,2026-07-01T10:00:00Z,5,\x00", "nul_character"),
    ("shop,2026-07-01T10:00:00Z,,a", "no_amount"),
    ("shop,,5,a", "no_date"),
    ("shop,ayer,5,a", "unreadable_date"),
    ("shop,2026-02-31,5,a", "unreadable_date"),
    ("shop,9999-12-31T23:59:59,5,a", "absurd_date"),
    ("shop,0001-01-01T00:00:00+14:00,5,a", "absurd_date"),
    ("shop,12026-01-01T00:00:00,5,a", "absurd_date"),
    (",2026-07-01T10:00:00Z,5,a", "no_tenant"),
    ("sh\x07op,2026-07-01T10:00:00Z,5,a", "invalid_tenant"),
    ("shop,2026-07-01T10:00:00Z", "wrong_columns"),
    ("shop,2026-07-01T10:00:00Z,5,a,b,c", "wrong_columns"),
    ("shop,2026-07-01T10:00:00Z,5," + "a" * 201, "text_too_long"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_row_that_is_no_sale_is_kept_aside_with_line_and_reason(tmp_path: Path, row: str, reason: str) -> None:
    good = "shop,2026-07-01T10:00:00Z,5,a\n"

    report, product = run(tmp_path, HEADER + good + row + "\n" + good)

    assert reasons(report) == {reason: 1}
    assert report["reasons"][0]["first_line"] == 3
    assert (report["rows"], report["accepted"], product.total) == (3, 2, Decimal(10))
    kept = [(line, why) for (_, _, line), why in product.quarantine.items()]
    assert kept + [(row["line"], row["reason"]) for row in report["unassigned"]] == [(3, reason)]


def test_bytes_that_are_no_utf8_cost_their_own_line_and_are_named(tmp_path: Path) -> None:
    content = HEADER.encode() + b"shop,2026-07-01T10:00:00Z,5,caf\xe9\nshop,2026-07-01T10:00:00Z,6,caf\xc3\xa9\n"

    report, product = run(tmp_path, content)

    assert product.quarantine == {(str(SHOP), "sales.csv", 2): "invalid_encoding"}
    assert [sale["product_id"] for sale in product.sales.values()] == ["café"]
    assert report["accepted"] == 1


def test_another_encoding_is_read_by_option(tmp_path: Path) -> None:
    content = (HEADER + "shop,2026-07-01T10:00:00Z,5,café\n").encode("latin-1")

    _, product = run(tmp_path, content, encoding="latin-1")

    assert [sale["product_id"] for sale in product.sales.values()] == ["café"]


@pytest.mark.parametrize("tail", ["", ',"'])
def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path, tail: str) -> None:
    rows = [f"shop,2026-07-01T10:{i % 60:02}:00Z,1,p{i}" for i in range(9_000)]
    rows[10] = f'shop,2026-07-01T10:00:00Z,"1,broken{tail}'

    report, product = run(tmp_path, HEADER + "\n".join(rows) + "\n")

    assert report["rows"] == 9_000
    assert product.total == 8_999
    assert list(product.quarantine.values()) in (["unclosed_quote"], ["wrong_columns"], ["not_a_number"])


def test_a_line_end_inside_a_quoted_name_is_part_of_it_and_lines_stay_right(tmp_path: Path) -> None:
    content = HEADER + 'shop,2026-07-01T10:00:00Z,5,"two\nlines"\nshop,2026-07-01T10:00:00Z,bad,a\n'

    report, product = run(tmp_path, content)

    assert [sale["product_id"] for sale in product.sales.values()] == ["two\nlines"]
    assert report["reasons"] == [{"reason": "not_a_number", "rows": 1, "first_line": 4}]


def test_a_tenant_of_which_only_broken_rows_speak_is_none(tmp_path: Path) -> None:
    report, product = run(tmp_path, HEADER + "12.50,shop,x,a\nshop,2026-07-01T10:00:00Z,5,a\n")

    assert [tenant["name"] for tenant in report["tenants"]] == ["shop"]
    assert report["unassigned"] == [{"line": 2, "reason": "not_a_number"}]
    assert product.quarantine == {}
    assert list(product.tenants) == [str(SHOP)]


def test_many_broken_rows_of_a_tenant_that_is_none_are_counted_and_not_collected(tmp_path: Path) -> None:
    report, product = run(tmp_path, HEADER + "ghost,2026-07-01,x,a\n" * 2_500)

    assert (report["quarantined"], report["unassigned_rows"], len(report["unassigned"])) == (2_500, 2_500, 100)
    assert product.calls == ["ml_list_tenants"]


def test_a_mended_file_takes_its_quarantined_rows_back(tmp_path: Path) -> None:
    _, product = run(tmp_path, HEADER + "shop,2026-07-01T10:00:00Z,five,a\nshop,2026-07-01T10:00:00Z,6,a\n")
    assert len(product.quarantine) == 1

    run(tmp_path, HEADER + "shop,2026-07-01T10:00:00Z,5,a\nshop,2026-07-01T10:00:00Z,6,a\n", product)

    assert product.quarantine == {}
    assert product.total == 11


def test_a_dry_run_says_what_would_happen_and_writes_nothing(tmp_path: Path) -> None:
    _, product = run(tmp_path, HEADER + "shop,2026-07-01T10:00:00Z,5,a\n")
    content = HEADER + "shop,2026-07-01T10:00:00Z,5,a\nshop,2026-07-02T10:00:00Z,6,a\nshop,ayer,6,a\n"

    report, _ = run(tmp_path, content, product, dry_run=True)

    assert (report["dry_run"], report["accepted"], report["quarantined"]) == (True, 2, 1)
    assert (report["inserted"], report["known"], report["tenants"][0]["total"]) == (1, 1, "11")
    assert (len(product.sales), product.quarantine) == (1, {})


def test_a_dry_run_reads_a_file_also_where_the_product_has_tables_of_its_own(tmp_path: Path) -> None:
    class OwnTables(FakeProduct):
        def call(self, function: str, params: Mapping[str, object]) -> Any:
            if function == "example_import_sales":
                raise NotInstalled("The database lacks example_import_sales.")
            return super().call(function, params)

    content = HEADER + "shop,2026-07-01T10:00:00Z,5,a\n"

    report, _ = run(tmp_path, content, OwnTables(), dry_run=True)

    assert (report["accepted"], report["tenants"][0]["total"]) == (1, "5")
    assert report["notes"] == ["An import would be refused: The database lacks example_import_sales."]
    with pytest.raises(NotInstalled):
        run(tmp_path, content, OwnTables())


def test_chunks_stay_small_however_the_tenants_are_mixed(tmp_path: Path) -> None:
    rows = "".join(f"shop{i % 3},2026-07-01T10:00:00Z,1,p{i}\n" for i in range(50))

    report, product = run(tmp_path, HEADER + rows, chunk_rows=4)

    assert product.largest_call == 4
    assert (len(product.sales), report["inserted"]) == (50, 50)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_and_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path, separator: str) -> None:
    content = "\ufeff" + (HEADER + "shop,2026-07-01T10:00:00Z,5,a\n").replace(",", separator)

    _, product = run(tmp_path, content)

    assert product.total == 5


def test_a_decimal_comma_is_read_by_option_only(tmp_path: Path) -> None:
    content = "tenant_id;fecha;total\nshop;2026-07-01T10:00:00Z;1.234,50\n"

    refused, _ = run(tmp_path, content)
    _, product = run(tmp_path, content, decimal_comma=True)

    assert reasons(refused) == {"not_a_number": 1}
    assert product.total == Decimal("1234.5")


def test_columns_are_mapped_by_option_in_any_case(tmp_path: Path) -> None:
    content = "Store,When,Amount\nshop,2026-07-01T10:00:00Z,5\n"

    _, product = run(tmp_path, content, columns={"tenant_id": "store", "fecha": "WHEN", "total": "amount"})

    assert product.total == 5


def test_a_missing_column_names_what_the_file_has_and_the_option(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        run(tmp_path, "tenant_id,when,total\nshop,2026-07-01,5\n")

    assert "fecha" in caught.value.message
    assert "tenant_id, when, total" in caught.value.message
    assert "--column fecha=NAME" in caught.value.next_step


def test_a_file_of_one_tenant_needs_no_tenant_column(tmp_path: Path) -> None:
    _, product = run(tmp_path, "fecha,total\n2026-07-01T10:00:00Z,5\n", tenant="shop")

    assert next(iter(product.sales))[0] == str(SHOP)


def test_a_quantity_that_cannot_be_read_does_not_cost_the_sale(tmp_path: Path) -> None:
    content = "tenant_id,fecha,total,cantidad\nshop,2026-07-01T10:00:00Z,5,dos\nshop,2026-07-01T11:00:00Z,5,2\n"

    report, product = run(tmp_path, content)

    assert [sale["quantity"] for sale in product.sales.values()] == [None, "2"]
    assert report["unreadable_quantities"] == 1


def test_a_gzip_that_breaks_off_gives_the_rows_before_and_says_so(tmp_path: Path) -> None:
    rows = "".join(f"shop,2026-07-01T10:00:00Z,1,p{i * 7919 % 10007}\n" for i in range(20_000))
    whole = gzip.compress((HEADER + rows).encode())

    report, product = run(tmp_path, whole[: len(whole) // 2])

    assert not report["complete"]
    assert "breaks off after line" in report["problem"]
    assert 0 < len(product.sales) == report["accepted"] < 20_000


def test_a_gzip_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    report, product = run(tmp_path, gzip.compress((HEADER + "shop,2026-07-01T10:00:00Z,5,a\n").encode()))

    assert report["complete"]
    assert product.total == 5


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "no line"), (b"PK\x03\x04abc", "Excel"), ("a,b\n".encode("utf-16"), "UTF-16"), (b"\n\n \n", "no line")],
)
def test_a_file_that_is_no_csv_is_refused_with_a_next_step(tmp_path: Path, content: bytes, word: str) -> None:
    with pytest.raises(InvalidFile, match=word) as caught:
        run(tmp_path, content)

    assert caught.value.next_step


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.csv"):
        import_file(tmp_path / "none.csv", FakeProduct())


@pytest.mark.parametrize(
    "options",
    [
        {"timezone": "Europa/Madrid"},
        {"columns": {"amount": "x"}},
        {"delimiter": "--"},
        {"delimiter": ",", "decimal_comma": True},
        {"chunk_rows": 0},
        {"time_format": "%Q"},
    ],
)
def test_an_option_that_cannot_be_used_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    product = FakeProduct()

    with pytest.raises(ConfigError) as caught:
        run(tmp_path, HEADER + "shop,2026-07-01T10:00:00Z,5,a\n", product, **options)

    assert caught.value.next_step
    assert "example_import_sales" not in product.calls


def test_a_zone_with_a_typing_error_gets_near_matches(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Europe/Madrid"):
        run(tmp_path, HEADER, timezone="Europa/Madrid")


def test_naive_times_take_the_zone_that_the_database_has_for_the_tenant(tmp_path: Path) -> None:
    product = FakeProduct([{"tenant_id": str(SHOP), "name": "shop", "time_zone": "America/Lima"}])

    report, _ = run(tmp_path, HEADER + "shop,2026-07-01T10:00:00,5,a\nnew,2026-07-01T10:00:00,5,a\n", product)

    assert [sale["sold_at"] for sale in product.sales.values()] == [
        "2026-07-01T15:00:00+00:00",
        "2026-07-01T10:00:00+00:00",
    ]
    assert [tenant["new"] for tenant in report["tenants"]] == [False, True]


def test_a_zone_of_the_database_that_nobody_knows_is_utc_and_noted(tmp_path: Path) -> None:
    product = FakeProduct([{"tenant_id": str(SHOP), "name": "shop", "time_zone": "Mars/Olympus"}])

    report, _ = run(tmp_path, HEADER + "shop,2026-07-01T10:00:00,5,a\n", product)

    assert [sale["sold_at"] for sale in product.sales.values()] == ["2026-07-01T10:00:00+00:00"]
    assert "Mars/Olympus" in report["notes"][0]


def test_facts_of_every_tenant_reach_the_database_and_a_tenants_own_win(tmp_path: Path) -> None:
    facts = {"country": "GB", "currency": "GBP", "language": "en", "cutoff_hour": 0}
    own = {"bar": {"cutoff_hour": 5}}

    _, product = run(
        tmp_path, HEADER + "bar,2026-01-05T10:00,1,x\nshop,2026-01-05T10:00,1,x\n", every_tenant=facts, tenants=own
    )

    assert product.tenants[str(parse_tenant_id("shop"))].items() >= facts.items()
    assert product.tenants[str(parse_tenant_id("bar"))].items() >= {**facts, "cutoff_hour": 5}.items()


@pytest.mark.parametrize(
    ("facts", "step"), [({"currency": "euros"}, "ISO 4217"), ({"country": "Atlantis"}, "ISO 3166")]
)
def test_facts_that_cannot_be_are_refused_before_anything_is_read(tmp_path: Path, facts: Any, step: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, HEADER, every_tenant=facts)

    assert step in caught.value.next_step


def test_given_facts_reach_the_database_also_for_a_tenant_without_sales(tmp_path: Path) -> None:
    facts = {"time_zone": "Europe/Madrid", "cutoff_hour": 5, "currency": "EUR"}

    report, product = run(tmp_path, HEADER, tenants={"quiet": {"name": "Quiet & Co", **facts}})

    assert product.tenants[str(parse_tenant_id("quiet"))].items() >= {"name": "Quiet & Co", **facts}.items()
    assert [tenant["rows"] for tenant in report["tenants"]] == [0]


def test_a_tenant_given_by_a_bad_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTenantId):
        run(tmp_path, HEADER, tenants={"": {"name": "x"}})


def test_a_local_time_that_the_clock_skipped_moves_forward_by_the_gap() -> None:
    # Madrid, 29 March 2026: 02:00 becomes 03:00; 02:30 does not exist.
    instant, change = parse_instant("2026-03-29 02:30:00", ZoneInfo("Europe/Madrid"))

    assert (instant, change) == (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "nonexistent")
    assert instant.astimezone(ZoneInfo("Europe/Madrid")).hour == 3


def test_a_local_time_that_occurs_twice_is_the_first_occurrence() -> None:
    # Madrid, 25 October 2026: 03:00 summer time (UTC+2) becomes 02:00 (UTC+1).
    instant, change = parse_instant("2026-10-25 02:30:00", ZoneInfo("Europe/Madrid"))

    assert (instant, change) == (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "ambiguous")


def test_a_time_with_an_offset_is_kept_and_a_date_alone_is_noon() -> None:
    madrid = ZoneInfo("Europe/Madrid")

    assert parse_instant("2026-10-25T02:30:00-05:00", madrid) == (datetime(2026, 10, 25, 7, 30, tzinfo=UTC), "")
    assert parse_instant("2026-07-01", madrid) == (datetime(2026, 7, 1, 10, tzinfo=UTC), "")
    assert parse_instant("01/07/2026 09:05", madrid, "%d/%m/%Y %H:%M") == (datetime(2026, 7, 1, 7, 5, tzinfo=UTC), "")
    assert parse_instant("01/07/2026", madrid, "%d/%m/%Y") == (datetime(2026, 7, 1, 10, tzinfo=UTC), "")


def test_touched_times_are_counted(tmp_path: Path) -> None:
    content = HEADER + "shop,2026-03-29T02:30:00,1,a\nshop,2026-10-25T02:30:00,1,a\nshop,2026-10-25T12:00:00,1,a\n"

    report, _ = run(tmp_path, content, timezone="Europe/Madrid")

    assert (report["nonexistent_times"], report["ambiguous_times"]) == (1, 1)


@on_a_busy_machine
@given(st.decimals(min_value=-(10**15), max_value=10**15, places=4, allow_nan=False, allow_infinity=False))
def test_an_amount_keeps_its_value_in_one_spelling(value: Decimal) -> None:
    spellings = {parse_amount(text).text for text in (f"{value:f}", f"{value:f}00", f" {value:E} ")}

    assert len(spellings) == 1
    assert Decimal(spellings.pop()) == value


@on_a_busy_machine
@given(st.text(max_size=40))
def test_any_text_is_an_amount_or_a_reason(text: str) -> None:
    def read() -> str:
        try:
            amount = parse_amount(text)
        except BadRow as bad:
            return str(bad)
        return "same" if amount.value == Decimal(amount.text) else "changed"

    assert read() in {"same", "no_amount", "not_a_number", "not_finite", "absurd_amount"}


@on_a_busy_machine
@given(st.binary(max_size=400))
def test_any_bytes_behind_a_header_are_accepted_or_quarantined_row_by_row(tmp_path_factory: Any, data: bytes) -> None:
    report, product = run(tmp_path_factory.mktemp("any"), HEADER.encode() + data)

    assert report["rows"] == report["accepted"] + report["quarantined"]
    assert len(product.sales) == report["inserted"]
    json.dumps(report, allow_nan=False)


def test_a_report_holds_sums_to_the_cent_and_the_span_of_the_sales(tmp_path: Path) -> None:
    content = HEADER + "shop,2026-07-02T10:00:00Z,0.10,a\n" * 3 + "shop,2026-07-01T10:00:00Z,-0.05,a\n"

    report, _ = run(tmp_path, content)

    (tenant,) = report["tenants"]
    assert (tenant["total"], tenant["rows"]) == ("0.25", 4)
    assert tenant["first_sale"] == "2026-07-01T10:00:00+00:00"
    assert tenant["last_sale"] == "2026-07-02T10:00:00+00:00"


@pytest.mark.parametrize(
    ("row", "option"), [("shop;31/12/2025;5", "--time-format"), ("shop;2026-07-01;5,50", "--decimal-comma")]
)
def test_a_file_of_which_most_rows_fail_alike_names_the_option_that_helps(
    tmp_path: Path, row: str, option: str
) -> None:
    report, _ = run(tmp_path, "tenant_id;fecha;total\n" + f"{row}\n" * 3)

    assert len(report["notes"]) == 1
    assert option in report["notes"][0]


def test_a_few_bad_rows_are_no_reason_for_a_hint(tmp_path: Path) -> None:
    good = "shop;2026-07-01;5\n"

    report, _ = run(tmp_path, f"tenant_id;fecha;total\n{good * 3}shop;31/12/2025;5\nshop;2026-07-01;x\n")

    assert report["notes"] == []


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(HEADER + "shop,2026-07-01T10:00:00Z,5,a\n" * 5_000)
    seen: list[tuple[int, int]] = []

    import_file(path, FakeProduct(), progress=lambda done, total: seen.append((done, total)))

    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
