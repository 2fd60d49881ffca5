"""The command line: argv to a job and its result to the terminal."""
