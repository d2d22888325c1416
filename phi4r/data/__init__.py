"""From files of problems and traces to packed batches of tokens."""
