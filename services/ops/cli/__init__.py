"""The command line: options, questions and tables. What a command does stands in `commands`."""
