"""Judge prompts: their files, what they measure, and how a reply to them is read."""
