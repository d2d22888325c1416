"""The commands of `phi4r`, one file each."""
