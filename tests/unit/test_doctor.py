"""What `doctor` says about what it finds."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.cli.health import exact_sum
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.migrate import MigrationStatus
from app.errors import DatabaseUnavailable
from app.services.doctor import diagnose
from app.services.doctor.check import some
from app.services.doctor.countries import check_countries
from app.services.doctor.database import (
    WORKER_ROLES,
    check_migrations,
    check_roles,
    check_row_security_lint,
    check_tenant_facts,
)
from app.services.doctor.machine import (
    check_candidates,
    check_home,
    check_neural,
    check_signing_key,
    check_threads,
    check_time_zones,
)
from app.services.doctor.sales import SalesOfTenant, check_row_security
from app.services.tenants import Tenant
from app.tenancy import parse_tenant_id


def sales(**changes: Any) -> SalesOfTenant:
    row = SalesOfTenant(
        tenant_id="t", name="bakery", owner_rows=2, owner_total="10.50", worker_rows=2, worker_total="10.5"
    )
    row.update(changes)  # type: ignore[typeddict-item]
    return row


def role(*, superuser: bool = False, bypass: bool = False) -> dict[str, bool]:
    return {"superuser": superuser, "bypass_row_security": bypass, "can_log_in": False}


def test_equal_rows_and_equal_exact_sums_are_fine_however_they_are_spelled() -> None:
    found = check_row_security([sales()])

    assert found.status == "ok"
    assert "2 rows" in found.detail


@pytest.mark.parametrize("changes", [{"worker_rows": 1}, {"worker_total": "10.49"}, {"owner_total": "10.51"}])
def test_a_missing_row_or_a_missing_cent_fails(changes: dict[str, Any]) -> None:
    found = check_row_security([sales(), sales(name="bar", **changes)])

    assert found.status == "fail"
    assert found.detail.startswith("1 of 2 tenants differ: bar")
    assert found.next_step


def test_no_tenants_at_all_is_a_warning_that_names_the_import() -> None:
    found = check_row_security([])

    assert found.status == "warn"
    assert "import" in found.next_step


def test_a_pending_migration_fails_and_foreign_ones_do_not() -> None:
    assert check_migrations(MigrationStatus(("1_a",), (), others=1)).status == "ok"

    pending = check_migrations(MigrationStatus(("1_a",), ("2_b",), others=0))

    assert pending.status == "fail"
    assert "1 of 2 are not applied: 2_b" in pending.detail
    assert "db migrate" in pending.next_step


def test_roles_must_exist_and_be_bound_by_row_security() -> None:
    roles = {name: role() for name in WORKER_ROLES}

    assert check_roles(roles).status == "ok"
    assert "tenantcast_system" in check_roles({"tenantcast_worker": role()}).detail
    freed = check_roles({**roles, "tenantcast_worker": role(bypass=True)})
    assert freed.status == "fail"
    assert freed.next_step == "alter role tenantcast_worker nobypassrls;"


def test_a_lint_problem_is_named_with_its_object() -> None:
    assert check_row_security_lint([]).status == "ok"

    found = check_row_security_lint([{"problem": "no policy", "object": "ml_x"}])

    assert found.status == "fail"
    assert "no policy (ml_x)" in found.detail


def test_a_tenant_with_an_unknown_time_zone_is_named() -> None:
    good = Tenant(parse_tenant_id("a"), "a", "EUR", "Europe/Madrid")
    wrong = Tenant(parse_tenant_id("b"), "Bar Sol", "EUR", "Mars/Olympus")

    assert check_tenant_facts([good]).status == "ok"
    found = check_tenant_facts([good, wrong])
    assert found.status == "warn"
    assert "Bar Sol (Mars/Olympus)" in found.detail


def test_a_candidate_without_its_library_is_a_warning_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prophet" else object())

    found = check_candidates(MLSettings(model_candidates=("full",)))

    assert found.status == "warn"
    assert found.detail.startswith("prophet cannot take part")
    assert check_candidates(MLSettings(model_candidates=("naive", "xgboost"))).status == "ok"


def test_a_library_that_several_candidates_need_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xgboost" else object())

    found = check_candidates(MLSettings())

    assert found.detail.startswith("xgboost, recursive, levels cannot take part")
    assert found.next_step.count("xgboost-cpu") == 1


def test_a_network_that_cannot_be_trained_is_a_warning_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    found = check_neural(MLSettings(global_lstm=True))

    assert found.status == "warn"
    assert "tenantcast[neural]" in found.next_step
    assert check_neural(MLSettings()).status == "ok"


def test_this_machine_knows_its_time_zones() -> None:
    assert check_time_zones().status == "ok"


def test_many_native_threads_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    found = check_threads()

    assert found.status == "warn"
    assert "OMP_NUM_THREADS=8" in found.detail


def test_a_home_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert check_home(tmp_path / "file" / "home").status == "fail"
    assert check_home(tmp_path / "home").status == "ok"


def test_a_signing_key_that_others_can_read_fails(tmp_path: Path) -> None:
    settings = Settings(tenantcast_home=tmp_path)
    assert "made by the first forecast" in check_signing_key(settings).detail
    key = tmp_path / "artifact.key"
    key.write_text(f"k1:{'A' * 43}=")

    key.chmod(0o644)
    readable = check_signing_key(settings)
    key.chmod(0o600)
    private = check_signing_key(settings)

    assert readable.status == "fail"
    assert readable.next_step.startswith("chmod 600")
    assert private.status == "ok"
    assert "'k1'" in private.detail


def test_a_broken_key_in_the_environment_fails_without_showing_it(tmp_path: Path) -> None:
    settings = Settings(tenantcast_home=tmp_path, ml_artifact_keys=SecretStr("k1:hunter2"))

    found = check_signing_key(settings)

    assert found.status == "fail"
    assert "hunter2" not in found.detail + found.next_step


def test_a_database_that_does_not_answer_is_one_failed_check_among_the_others(tmp_path: Path) -> None:
    def refuse(settings: Settings) -> Any:
        raise DatabaseUnavailable("db.example does not answer.", next_step="Is it up?")

    found = diagnose(Settings(tenantcast_home=tmp_path), MLSettings(), refuse)

    assert found.failed
    assert [check.name for check in found.checks if check.status == "fail"] == ["database"]
    assert found.checks[-1].next_step == "Is it up?"
    assert found.as_dict()["ok"] is False


def test_only_the_first_few_of_many_are_named() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("text", "shown"), [("37084.9", "37,084.90"), ("0", "0.00"), ("-1234.5678", "-1,234.5678"), (None, "")]
)
def test_sums_show_every_digit_and_at_least_cents(text: str | None, shown: str) -> None:
    assert exact_sum(text) == shown
    assert text is None or Decimal(shown.replace(",", "")) == Decimal(text)


def test_a_country_in_doubt_is_told_with_the_tenant_and_what_to_set() -> None:
    assert check_countries({}).status == "ok"

    found = check_countries({"bakery": "No country is set."})

    assert found.status == "warn"
    assert found.detail == "1 in doubt. bakery: No country is set."
    assert "settings set" in found.next_step
