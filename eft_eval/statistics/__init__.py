"""Numbers in, numbers out: every interval and test of the product comes from here."""
