"""The subset of Nomad that the embedded engine executes: parameterized batch jobs, as on one Nomad client.

`hcl` and `jobspec` read a job, `interpolate` and `templates` give a task its environment, `allocation` runs one,
`jobs` keeps jobs and dispatches, `api` speaks Nomad's HTTP. What is executed, what means nothing on one machine and
what is refused stands in docs/reference/embedded-nomad.md. Learned from Nomad's source, written anew.
"""
