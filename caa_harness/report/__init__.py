"""Reports: verdicts in, text and plain data out; not how a verdict was reached."""
