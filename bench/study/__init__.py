"""When does a correction help? A laboratory for two cores; see README.md beside this file."""
