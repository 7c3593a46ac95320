"""One view per thing that is shown: records in, document blocks out."""
