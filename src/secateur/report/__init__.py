"""What results look like: tables in the terminal, cards, later the comparison page."""
