"""What a run would take, before it starts: memory and time, from configurations alone."""
