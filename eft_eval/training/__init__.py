"""The two tuned models of the frontier (section 4.2): DPO on preferences, from one reference."""
