"""The command line: everything that people do to an installation."""
