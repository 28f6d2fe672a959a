"""From the view of a run to one HTML file that needs nothing else: no network, no other file, no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.db.gateway import Gateway
from app.services.report.data import RunPage, read_run
from app.services.report.formats import Language, language_of
from app.services.report.view import TenantView, view_tenant
from app.services.report.words import WORDS, say

DEFAULT_LIMIT = 500  # tenants on one page: some 10 MB of HTML


@dataclass(frozen=True)
class PageView:
    """What the outer template prints: the run's summary in the page's language, then the tenants in theirs."""

    language: Language
    run_id: str
    version: str
    summary: tuple[str, ...]
    tenants: tuple[TenantView, ...]

    def say(self, key: str, **values: object) -> str:
        """A sentence of the page in the page's own language."""
        return say(self.language, key, **values)


def write_report(gateway: Gateway, run_id: UUID | None, out: Path, *, limit: int = DEFAULT_LIMIT) -> Path:
    """Write the page of the run ``run_id`` (None: the newest) to the file ``out`` and return its absolute path.

    At most ``limit`` tenants, by name; the page says how many were left out.

    Raises
    ------
    UnknownRun : there is no such run
    """
    return write_page(read_run(gateway, run_id, limit), out)


def write_page(run: RunPage, out: Path) -> Path:
    """Write the page of a run that was read already; the file appears whole or not at all."""
    page = render_page(view_page(run))
    target = out.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, suffix=".html", delete=False) as file:
        file.write(page)
    written = Path(file.name)
    written.chmod(0o644)
    return written.replace(target)


def view_page(run: RunPage) -> PageView:
    """The whole page in words; its own language is that of most of its tenants."""
    tenants = tuple(view_tenant(part, number) for number, part in enumerate(run.parts, start=1))
    language = _page_language(tenants)
    counts = {key: str(count) for key, count in run.counts.items()}
    created = str(run.run.get("created_at", ""))[:16].replace("T", " ")
    summary = [say(language, "run_line", when=created, n=run.total, **counts)]
    if run.counts["pending"]:
        summary.append(say(language, "run_open", **counts))
    if run.total > len(tenants):
        summary.append(say(language, "left_out", shown=len(tenants), n=run.total))
    return PageView(language, str(run.run["run_id"]), str(run.run.get("code_version", "")), tuple(summary), tenants)


def render_page(view: PageView) -> str:
    """HTML of the page. Everything that comes from data is escaped; style and script are let in by their hash alone."""
    style, script = _source("report.css"), _source("report.js")
    environment = Environment(
        loader=PackageLoader("app.services.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        page=view,
        style=Markup(style),  # noqa: S704 (our own file)
        script=Markup(script),  # noqa: S704 (our own file)
        policy=_policy(style, script),
    )


def _page_language(tenants: tuple[TenantView, ...]) -> Language:
    counted = Counter(tenant.locale.language for tenant in tenants)
    return language_of(max(sorted(WORDS), key=lambda language: counted[language]))


def _source(name: str) -> str:
    return files("app.services.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content security policy: nothing may be loaded, only our own style and script may run."""
    allowed = [f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'", "img-src data:"]
    return "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
