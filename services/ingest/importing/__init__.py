"""Files: a table and a mapping become interactions, through the same normaliser as
everything else.
"""
