"""Who an event belongs to: pure rules, and the repository that applies them."""
