"""What a company's own leads show: whether they come ready or become so, and what each source
brings. Pure.
"""
