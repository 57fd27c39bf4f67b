"""When someone is told that Nomad is not well: no quorum, failed runs, certificates near their end, a quota near its.

Owns the conditions. What they look at is reported by the servers (files/report.sh); who is told is the foundation's.
"""

import pulumi
from pulumi_gcp import monitoring

from infra.foundation.foundation import Foundation
from infra.labels import labels
from infra.settings import PROJECT, Settings

_METRIC = "custom.googleapis.com/mlops/nomad"
_DAYS = 30
"""Certificates are made again by an update in their last 90 days."""
_PART = 0.8


class NomadAlerts(pulumi.ComponentResource):
    """The alerts of one Nomad region."""

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        region: str,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud, and depends on the servers."""
        super().__init__(f"{PROJECT}:nomad:NomadAlerts", name, None, opts)
        of = settings.nomad.regions[region]

        def alert(what: str, title: str, text: str, *conditions: monitoring.AlertPolicyConditionArgs) -> None:
            monitoring.AlertPolicy(
                f"{name}-{what}",
                display_name=f"mlops: Nomad {region}: {title}",
                combiner="OR",
                conditions=list(conditions),
                documentation=monitoring.AlertPolicyDocumentationArgs(content=text, mime_type="text/markdown"),
                notification_channels=[channel.name for channel in foundation.notices.channels],
                alert_strategy=monitoring.AlertPolicyAlertStrategyArgs(auto_close="86400s"),
                user_labels=labels(settings, "nomad"),
                opts=pulumi.ResourceOptions(parent=self),
            )

        def chosen(metric: str) -> str:
            return (
                f'metric.type = "{_METRIC}/{metric}" AND resource.type = "gce_instance" AND '
                f'metric.labels.region = "{region}"'
            )

        def condition(title: str, metric: str, comparison: str, value: float) -> monitoring.AlertPolicyConditionArgs:
            return monitoring.AlertPolicyConditionArgs(
                display_name=title,
                condition_threshold=monitoring.AlertPolicyConditionConditionThresholdArgs(
                    filter=chosen(metric),
                    comparison=comparison,
                    threshold_value=value,
                    duration="0s",
                    aggregations=[
                        monitoring.AlertPolicyConditionConditionThresholdAggregationArgs(
                            alignment_period="300s",
                            per_series_aligner="ALIGN_MIN" if comparison == "COMPARISON_LT" else "ALIGN_MAX",
                        )
                    ],
                ),
            )

        alert(
            "quorum",
            "quorum",
            "The servers have no leader, or one of them is lost. docs/runbooks/restore-a-snapshot.md tells how to find "
            "out which, and what to do where most are gone.",
            monitoring.AlertPolicyConditionArgs(
                display_name="nobody reports as leader",
                condition_absent=monitoring.AlertPolicyConditionConditionAbsentArgs(
                    filter=chosen("healthy"),
                    duration="300s",
                    aggregations=[
                        monitoring.AlertPolicyConditionConditionAbsentAggregationArgs(
                            alignment_period="60s",
                            per_series_aligner="ALIGN_MAX",
                            # Whichever server leads.
                            cross_series_reducer="REDUCE_MAX",
                        )
                    ],
                ),
            ),
            condition("autopilot says that not all servers are healthy", "healthy", "COMPARISON_LT", 1),
        )
        alert(
            "failed-runs",
            "failed runs",
            "`mlops runs list` shows which, and `mlops runs logs RUN` why.",
            condition("allocations have failed", "failed_runs", "COMPARISON_GT", 0),
        )
        alert(
            "certificates",
            "certificates",
            "Certificates end soon: run `pulumi up`, which makes new ones. "
            "docs/runbooks/rotate-certificates-and-tokens.md tells the rest.",
            condition(f"a certificate ends in {_DAYS} days", "certificate_days", "COMPARISON_LT", _DAYS),
        )
        quota = 'quota_metric="compute.googleapis.com/cpus", location="%s"' % of.region  # noqa: UP031  braces follow
        service = "serviceruntime_googleapis_com:quota"
        alert(
            "quota",
            "quota of CPUs",
            "Pools will stop growing: a group of machines that hits its quota is tried again and again. Ask for more: "
            "https://console.cloud.google.com/iam-admin/quotas.",
            monitoring.AlertPolicyConditionArgs(
                display_name=f"{_PART:.0%} of the region's vCPU are in use",
                condition_prometheus_query_language=(
                    monitoring.AlertPolicyConditionConditionPrometheusQueryLanguageArgs(
                        query=f"max({service}_allocation_usage{{{quota}}}) / max({service}_limit{{{quota}}}) > {_PART}",
                        duration="600s",
                        evaluation_interval="300s",
                    )
                ),
            ),
        )
        self.register_outputs({})
