"""Curation: from raw prompts to a packed, decontaminated mixture (sections 2, 2.1 and 2.2 of the paper)."""
