"""One document, three renderers: terminal, Markdown, HTML."""
