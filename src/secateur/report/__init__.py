"""What results look like: tables in the terminal, cards, and the report, one HTML page of many runs."""

from .space import write_space
from .write import write_report

__all__ = ["write_report", "write_space"]
