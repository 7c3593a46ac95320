"""lm-eval's files, in and out: finding, reading, samples, records, completeness, writing."""
