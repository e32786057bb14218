"""One module per kind of serving target, behind one small Protocol."""
