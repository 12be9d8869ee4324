"""From run directories to one self-contained page: tables, figures, and what they mean."""
