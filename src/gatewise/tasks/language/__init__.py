"""Language models: networks that say how likely each next token of a text is, and write texts by it."""
