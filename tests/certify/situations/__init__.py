"""One test, at least, for each situation in the table of docs/guarantees.md, through every door (`tests.certify.doors`)."""
