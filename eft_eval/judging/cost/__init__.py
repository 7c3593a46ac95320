"""What judging costs: list prices, estimates before it starts, a budget that holds."""
