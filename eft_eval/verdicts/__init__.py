"""What a judge said: the record, its text, its store, leases and writer."""
