"""Writing lead scores back to a CRM by signed webhooks."""
