"""Printers of text for chips, and the interpreter that says what a graph means."""
