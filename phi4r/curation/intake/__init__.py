"""Seeds: where prompts come from, and which of them are worth a look at all (section 2.1 of the paper)."""
