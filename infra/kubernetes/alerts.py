"""Alerts on runs that failed in a cluster: workflows and SparkApplications.

Owns what is told; who is told is the foundation's. They read the cluster's events, which GKE writes into Cloud Logging,
since an event names the run. The operators' counters do not, and a counter's first increment after the operator started
is its first sample, from which no increase can be told. An event may be lost (docs/workflow-events.md of Argo
v4.0.10), so what became of a run is read from the run, never from its alert.
"""

import pulumi
from pulumi_gcp import container, monitoring

from infra.foundation.foundation import Foundation
from infra.kubernetes import names
from infra.labels import labels
from infra.settings import PROJECT, Settings

FAILED = {
    # workflow/controller/operator.go of Argo v4.0.10.
    "workflow": ("WorkflowFailed", "WorkflowTimedOut"),
    # pkg/common/event.go of Spark Operator v2.5.2.
    "SparkApplication": ("SparkApplicationFailed", "SparkApplicationSubmissionFailed"),
}
"""Reasons of events that say that a run failed, by what failed."""


class Alerts(pulumi.ComponentResource):
    """The alerts of a cluster."""

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        cluster: str,
        of: container.Cluster,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them.

        Args:
            name: The component's name.
            settings: The stack's settings.
            cluster: Which of `kubernetes.clusters`.
            of: That cluster.
            foundation: Its channels of notification.
            opts: Its options; the provider of Google Cloud is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:Alerts", name, None, opts)
        assert settings.kubernetes, "the settings were checked"  # noqa: S101
        for what, reasons in FAILED.items():
            monitoring.AlertPolicy(
                f"{name}-{what.lower()}",
                display_name=f"mlops: a {what} failed in cluster {cluster}",
                combiner="OR",
                severity="WARNING",
                conditions=[
                    monitoring.AlertPolicyConditionArgs(
                        display_name=" or ".join(reasons),
                        condition_matched_log=monitoring.AlertPolicyConditionConditionMatchedLogArgs(
                            filter=event_filter(names.cluster_name(cluster), settings.kubernetes.namespace, reasons),
                            label_extractors={"run": "EXTRACT(jsonPayload.involvedObject.name)"},
                        ),
                    )
                ],
                alert_strategy=monitoring.AlertPolicyAlertStrategyArgs(
                    # One mail for a wave of failures.
                    notification_rate_limit=monitoring.AlertPolicyAlertStrategyNotificationRateLimitArgs(period="900s"),
                    auto_close="86400s",
                ),
                notification_channels=[channel.name for channel in foundation.notices.channels],
                documentation=monitoring.AlertPolicyDocumentationArgs(
                    subject=f"a {what} failed in cluster {cluster}",
                    content="Run: ${log.extracted_label.run}. Why: `mlops runs show` and `mlops runs logs` with that "
                    "name, as docs/runbooks/reach-the-argo-ui.md says.",
                    mime_type="text/markdown",
                ),
                user_labels=labels(settings, "alerts"),
                opts=pulumi.ResourceOptions(parent=self, deleted_with=of, depends_on=[of]),
            )
        self.register_outputs({})


def event_filter(cluster: str, namespace: str, reasons: tuple[str, ...]) -> str:
    """The entries in Cloud Logging that are a cluster's events with one of some reasons."""
    any_reason = " OR ".join(f'"{reason}"' for reason in reasons)
    return (
        f'log_id("events") AND resource.labels.cluster_name="{cluster}" AND '
        f'jsonPayload.involvedObject.namespace="{namespace}" AND jsonPayload.reason=({any_reason})'
    )
