"""Presentation: tables and pages of what other packages computed."""
