"""Claims projected to leaderboards, cards and tables."""
