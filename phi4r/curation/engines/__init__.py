"""Where stages run: in one process, or on Apache Beam, with equal results."""
