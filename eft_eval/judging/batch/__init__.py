"""The Batch API: requests in files, jobs remembered, replies collected."""
