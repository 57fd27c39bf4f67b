"""What a change does to a stack: computed from the program itself, or read from Pulumi's own previews.

Owns both commands' answers, `mlops plan` and `mlops review`. It deliberately imports nothing here, so that each
command loads only what it uses.
"""
