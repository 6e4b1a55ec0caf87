"""Renderers of a journal: what happened, for people and for programs."""

from isolation_core.reports._grouping import Group, group_findings, unfinished_barriers
from isolation_core.reports._hints import explain
from isolation_core.reports._json import REPORT_SCHEMA, render_json, report_data
from isolation_core.reports._text import SECTION_HEADER, Style, render_change, render_score, render_summary

__all__ = [
    "REPORT_SCHEMA",
    "SECTION_HEADER",
    "Group",
    "Style",
    "explain",
    "group_findings",
    "render_change",
    "render_json",
    "render_score",
    "render_summary",
    "report_data",
    "unfinished_barriers",
]
