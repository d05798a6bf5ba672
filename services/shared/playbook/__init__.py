"""The playbook: its typed sections, how it is read from a folder, and what is checked in it."""
