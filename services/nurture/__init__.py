"""Nurture: decides on the next content touch of each stage change, or not to send, and says why;
and sends it.
"""
