"""The paper's experiments: arms × tasks × settings, run as plain lm-eval runs in one folder."""
