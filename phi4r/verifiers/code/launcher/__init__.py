"""What a sandbox starts: a program of its own that confines itself, and then runs another person's program.

The folder is run as it is (`python -I -S -B launcher ...`), so its files import each other by their bare names and
need the standard library only.
"""
