"""A comparison for CI systems: JUnit, GitHub, and the forms on disk."""
