"""A report as a page that people can send to each other."""
