"""Policies: what a stack of this platform may not be, each with its reason and its fix.

`mlops plan`, the tests and Pulumi's policy pack (`pulumi preview --policy-pack policy`) apply the same rules.
"""
