"""One module a topic: its figures and tables, from records, and the section that they make."""
