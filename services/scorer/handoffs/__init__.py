"""Hand-offs of leads to sales: when one is opened, whose it is, its clock, and its answer."""
