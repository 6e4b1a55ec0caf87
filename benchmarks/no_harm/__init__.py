"""Healthy suites of published projects: are their outcomes the same with isolation as without?"""
