"""What Argo's WorkflowTemplates and CronWorkflows mean: typed models, and the walks through them.

The models are our own, since hera's take a second to import. They type what this project reads; a test holds their
fields to hera's.
"""

from definitions.argo.models import CronWorkflow, WorkflowTemplate, parse_definition

__all__ = ["CronWorkflow", "WorkflowTemplate", "parse_definition"]
