"""What is recorded of results, and the tables and figures made of it."""
