"""The judge prompts that are shipped with eft-eval: Jinja templates with their metadata on top."""
