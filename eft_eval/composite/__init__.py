"""A composite: the sum of models (Eq. 4 and 5), its log-likelihoods, prompts and memory."""
