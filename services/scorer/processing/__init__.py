"""From consumed records to lead states and announcements, in one transaction a batch."""
