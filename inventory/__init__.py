"""What a stack registers, as data: recorded from the program, and what it comes to in capacity and rights.

Owns what plans, reviews and policies read. It deliberately knows no rule, and compares nothing.
"""
