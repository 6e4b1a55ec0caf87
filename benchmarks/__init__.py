"""Measurements: what isolation heals, what it must not harm, and what it costs."""
