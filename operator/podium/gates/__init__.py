"""One module per kind of gate, behind one small Protocol."""
