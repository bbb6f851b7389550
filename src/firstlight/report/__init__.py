"""One self-contained HTML page from results, in English and Japanese."""

from firstlight.report.page import render, write
from firstlight.report.words import LANGUAGES, check_language, texts

__all__ = ["LANGUAGES", "check_language", "render", "texts", "write"]
