"""One self-contained HTML page from results, in English and Japanese."""

from firstlight.report.page import render, render_diagnosis, write
from firstlight.report.words import LANGUAGES, check_language, texts

__all__ = ["LANGUAGES", "check_language", "render", "render_diagnosis", "texts", "write"]
