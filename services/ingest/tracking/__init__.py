"""What people do with our mails: tracked links, the open pixel, unsubscribing, preferences."""
