"""Inbound mail: replies, bounces and refusals, from IMAP or by webhook."""
