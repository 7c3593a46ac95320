"""One loaded transformers model: loading, passes, states that can be rolled back, positions."""
