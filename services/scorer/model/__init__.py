"""The estimate, pure: from events to belief, likelihood and explanation."""
