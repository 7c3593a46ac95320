"""Runs side by side: scores, arms, frontier, flips, put into one report record."""
