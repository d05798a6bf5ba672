"""Reading what senders post: JSON, multipart, signatures."""
