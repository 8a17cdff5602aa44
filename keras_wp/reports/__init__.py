"""What was found, as values, and every form in which it is shown."""
