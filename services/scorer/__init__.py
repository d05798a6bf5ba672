"""The scorer: who a lead is, where it stands in its buying process, how likely it is to buy, and
why.
"""
