"""Tables with outcomes, evaluated without a running system."""
