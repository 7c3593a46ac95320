"""A document as one offline HTML page."""
