"""What tests share: real servers, processes, generated histories, and the present."""
