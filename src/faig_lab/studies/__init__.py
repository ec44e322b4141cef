"""Studies of what the discovered filters do: one file each."""
