"""The embedded engine: what runs registered jobs on one machine, with no container engine and no cloud.

`platform` is the client's side (up, down, find); `supervisor` is the daemon. Generic parts, which know nothing of any
engine's definitions: `tasks` (processes), `watchdog` (their end), `scheduler` (who may start when), `images` (a
container image as a process), `state` (what is remembered). `nomad/` is the subset of Nomad built from them; an
engine for other definitions stands beside it. Deliberately not: a cluster, a sandbox, or limits on what a task uses.
"""
