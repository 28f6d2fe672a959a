"""One run as one self-contained HTML page that a shop owner understands."""

from app.services.report.page import write_report

__all__ = ["write_report"]
