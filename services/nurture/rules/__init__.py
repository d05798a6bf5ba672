"""The rules of nurture, pure: which content, whether it may go out, and when.

`decision` is the way in; `grounds` is the one ordered list of what speaks against a touch.
"""
