from uuid import UUID

import pytest

import app.config.ml_settings as module
from app.config.ml_settings import PRESETS, MLSettings, require_known_candidates
from app.config.settings import Settings
from app.errors import ConfigError
from app.services.ml.candidates import candidate_names
from app.tenancy import TenantId, parse_tenant_id

SHOP = UUID("11111111-1111-4111-8111-111111111111")


@pytest.fixture(autouse=True)
def _nothing_from_the_developer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_lists_are_written_with_commas(monkeypatch):
    monkeypatch.setenv("ML_MODEL_CANDIDATES", "naive, prophet")
    monkeypatch.setenv("ML_SARIMAX_ORDER", "2,0,1")
    monkeypatch.setenv("ML_SARIMAX_SEASONAL", "0,1,1,7")

    settings = MLSettings()

    assert settings.model_candidates == ("naive", "prophet")
    assert settings.sarimax_order == (2, 0, 1)
    assert settings.sarimax_seasonal == (0, 1, 1, 7)


def test_a_json_list_is_understood_too(monkeypatch):
    monkeypatch.setenv("ML_MODEL_CANDIDATES", '["naive", "snaive"]')
    monkeypatch.setenv("ML_SARIMAX_ORDER", "(1, 0, 0)")

    settings = MLSettings()

    assert settings.model_candidates == ("naive", "snaive")
    assert settings.sarimax_order == (1, 0, 0)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("ML_HORIZON_DAYS", "366", "less than or equal to 365"),
        ("ML_HORIZON_DAYS", "soon", "valid integer"),
        ("ML_CV_FOLDS", "0", "greater than or equal to 1"),
        ("ML_CV_PRIMARY_METRIC", "vibes", "'mae', 'rmse', 'wape'"),
        ("ML_SELECT_BEST", "perhaps", "valid boolean"),
        ("ML_STL_ZTHRESH", "nan", "finite"),
        ("ML_SARIMAX_ORDER", "9,9,9", "less than or equal to 3"),
        ("ML_SARIMAX_ORDER", "1,1", "too few numbers"),
        ("ML_SARIMAX_SEASONAL", "1,1,1,1", "2 or more"),
        ("ML_MODEL_CANDIDATES", ",", "at least one candidate"),
        ("ML_MODEL_CANDIDATES", "naive,naive", "named twice"),
        ("ML_HOLIDAYS_COUNTRY", "Narnia!", "pattern"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_is_allowed(monkeypatch, variable, value, allowed):
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError) as caught:
        MLSettings()

    assert variable in caught.value.message
    assert allowed in caught.value.message
    assert variable in caught.value.next_step
    assert "pydantic" not in str(caught.value)


def test_a_bad_argument_is_named_by_its_field():
    with pytest.raises(ConfigError, match="horizon_days cannot be 0"):
        MLSettings(horizon_days=0)


def test_unknown_variables_are_ignored(monkeypatch):
    monkeypatch.setenv("ML_NO_SUCH_THING", "1")

    assert MLSettings().horizon_days == 28


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("ML_HORIZON_DAYS=14\nML_CV_FOLDS=2\nML_UNKNOWN=x\n", encoding="utf-8")
    monkeypatch.setenv("ML_CV_FOLDS", "4")

    settings = MLSettings()

    assert (settings.horizon_days, settings.cv_folds) == (14, 4)


def test_a_dotenv_file_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / ".env").write_bytes(b"ML_HORIZON_DAYS=\xff\xfe\n")

    with pytest.raises(ConfigError, match=r"\.env is not UTF-8"):
        MLSettings()


def test_a_refused_secret_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        Settings(database_url=["postgres://canary-secret"])

    assert "canary-secret" not in str(caught.value)
    assert "database_url" in caught.value.message


def test_a_lease_out_of_bounds_names_its_variable(monkeypatch):
    monkeypatch.setenv("ML_LEASE_SECONDS", "1")

    with pytest.raises(ConfigError, match="ML_LEASE_SECONDS cannot be '1'"):
        Settings()


def test_a_star_allows_every_tenant(monkeypatch):
    monkeypatch.setenv("ML_TENANT_IDS", "*")

    assert module.ml_settings.allowed_tenants() is None


def test_a_list_allows_its_tenants_by_id_or_name(monkeypatch):
    monkeypatch.setenv("ML_TENANT_IDS", f"{SHOP}, corner-shop,")

    assert module.ml_settings.allowed_tenants() == frozenset({TenantId(SHOP), parse_tenant_id("corner-shop")})


def test_a_list_with_an_impossible_name_is_refused(monkeypatch):
    monkeypatch.setenv("ML_TENANT_IDS", "x" * 300)

    with pytest.raises(ConfigError, match="ML_TENANT_IDS"):
        MLSettings()


def test_overrides_come_from_the_given_reader():
    asked = []

    def reader(tenant_id: TenantId) -> object:
        asked.append(tenant_id)
        return {"horizon_days": 7}

    assert MLSettings().get_tenant_overrides(str(SHOP), reader) == {"horizon_days": 7}
    assert asked == [SHOP]


def test_a_tenant_without_overrides_has_an_empty_dict():
    assert MLSettings().get_tenant_overrides(str(SHOP), lambda _tenant: None) == {}


def test_importing_the_settings_module_reads_no_environment(monkeypatch):
    monkeypatch.setenv("ML_HORIZON_DAYS", "soon")

    assert module.MLSettings is MLSettings
    with pytest.raises(ConfigError):
        _ = module.ml_settings
    with pytest.raises(AttributeError):
        _ = module.no_such_name  # type: ignore[attr-defined]


def test_an_unknown_candidate_of_the_operator_is_refused_by_name():
    settings = MLSettings(model_candidates=("naive", "oracle"))

    with pytest.raises(ConfigError, match="'oracle'"):
        require_known_candidates(settings, ("naive", "snaive"))


def test_the_default_candidates_all_exist():
    assert set(candidate_names()) >= {"naive", "snaive", "weekday_mean"}
    require_known_candidates(MLSettings(), candidate_names())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("classic", ("naive", "snaive", "weekday_mean", "sarimax", "prophet", "xgboost")),
        ("full", candidate_names()),
        ("fast,prophet", (*PRESETS["fast"], "prophet")),
        ("ridge, fast", ("ridge", *(name for name in PRESETS["fast"] if name != "ridge"))),
    ],
)
def test_a_preset_stands_for_its_candidates(given, expected, monkeypatch):
    monkeypatch.setenv("ML_MODEL_CANDIDATES", given)

    assert MLSettings().model_candidates == expected


def test_full_is_classic_and_fast_together_and_all_are_in_the_registrys_order():
    assert set(PRESETS["full"]) == {*PRESETS["classic"], *PRESETS["fast"]} == set(candidate_names())
    for names in PRESETS.values():
        assert list(names) == [name for name in candidate_names() if name in names]


def test_no_candidate_has_the_name_of_a_preset():
    assert not set(candidate_names()) & set(PRESETS)


def test_the_message_about_an_unknown_candidate_names_the_presets():
    with pytest.raises(ConfigError) as caught:
        require_known_candidates(MLSettings(model_candidates=("oracle",)), candidate_names())

    assert "classic, fast, full" in caught.value.next_step
