"""The command line: a file per command; nothing heavy is imported before a command runs."""
