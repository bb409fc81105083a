"""The command line: one file per command. Only this and the report print."""
