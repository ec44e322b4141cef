"""The command line: arguments, the study and the other tasks, errors that name the setting."""
