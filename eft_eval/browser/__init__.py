"""The document browser: runs below a folder, filtered and read document by document."""
