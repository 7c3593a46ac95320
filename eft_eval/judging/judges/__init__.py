"""Who can be asked: one file per kind of judge, and the registry that knows them."""
