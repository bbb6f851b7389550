"""One self-contained HTML page from results, in English and Japanese."""

from firstlight.report.page import LANGUAGES, check_language, render, texts, write

__all__ = ["LANGUAGES", "check_language", "render", "texts", "write"]
