"""Renderers of a journal, for people and for programs."""

from isolation_core._alive import register_live_source
from isolation_core.reports._grouping import Group, group_findings, unfinished_barriers
from isolation_core.reports._hints import explain
from isolation_core.reports._json import REPORT_SCHEMA, render_json, report_data
from isolation_core.reports._summary import (
    debug_fixture_state,
    get_contamination_summary,
    validate_suite_isolation,
    validate_suite_isolation_sync,
)
from isolation_core.reports._text import SECTION_HEADER, Style, render_change, render_score, render_summary

__all__ = [
    "REPORT_SCHEMA",
    "SECTION_HEADER",
    "Group",
    "Style",
    "debug_fixture_state",
    "explain",
    "get_contamination_summary",
    "group_findings",
    "register_live_source",
    "render_change",
    "render_json",
    "render_score",
    "render_summary",
    "report_data",
    "unfinished_barriers",
    "validate_suite_isolation",
    "validate_suite_isolation_sync",
]
