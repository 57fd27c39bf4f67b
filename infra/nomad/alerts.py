"""When someone is told that Nomad is not well: no quorum, failed runs, certificates near their end, a quota near its.

Owns the conditions. What they look at is reported by the servers (files/report.sh); who is told is the foundation's.
"""

import pulumi
from pulumi_gcp import monitoring

from infra.foundation.foundation import Foundation
from infra.labels import labels
from infra.settings import PROJECT, Settings

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

        def reported(metric: str) -> str:
            return f'custom_googleapis_com:mlops_nomad_{metric}{{monitored_resource="gce_instance",region="{region}"}}'

        def condition(
            title: str, query: str, duration: int = 0, interval: int = 60
        ) -> monitoring.AlertPolicyConditionArgs:
            return monitoring.AlertPolicyConditionArgs(
                display_name=title,
                condition_prometheus_query_language=(
                    monitoring.AlertPolicyConditionConditionPrometheusQueryLanguageArgs(
                        query=query,
                        duration=f"{duration}s",
                        evaluation_interval=f"{interval}s",
                        # On a first update nothing was reported yet, and a condition on a metric that does not exist is
                        # refused (terraform-provider-google#11102).
                        disable_metric_validation=True,
                    )
                ),
            )

        alert(
            "quorum",
            "quorum",
            "The servers have no leader, or one of them is lost. docs/runbooks/restore-a-snapshot.md tells how to find "
            "out which, and what to do where most are gone.",
            # Whichever server leads. As long as this, because a new server's first report comes later than this policy.
            condition("nobody reports as leader", f"absent_over_time({reported('healthy')}[3m])", duration=300),
            condition(
                "autopilot says that not all servers are healthy", f"min_over_time({reported('healthy')}[5m]) < 1"
            ),
        )
        alert(
            "failed-runs",
            "failed runs",
            "`mlops runs list` shows which, and `mlops runs logs RUN` why.",
            condition("allocations have failed", f"max_over_time({reported('failed_runs')}[5m]) > 0"),
        )
        alert(
            "certificates",
            "certificates",
            "Certificates end soon: run `pulumi up`, which makes new ones. "
            "docs/runbooks/rotate-certificates-and-tokens.md tells the rest.",
            condition(
                f"a certificate ends in {_DAYS} days", f"min_over_time({reported('certificate_days')}[5m]) < {_DAYS}"
            ),
        )
        # The metrics are those of two kinds of monitored resources, so the query names one.
        named = f'monitored_resource="consumer_quota",quota_metric="compute.googleapis.com/cpus",location="{of.region}"'
        used, limit = (
            f"max(serviceruntime_googleapis_com:quota_{what}{{{named}}})" for what in ("allocation_usage", "limit")
        )
        alert(
            "quota",
            "quota of CPUs",
            "Pools will stop growing: a group of machines that hits its quota is tried again and again. Ask for more: "
            "https://console.cloud.google.com/iam-admin/quotas.",
            condition(
                f"{_PART:.0%} of the region's vCPU are in use",
                f"{used} / {limit} > {_PART}",
                duration=600,
                interval=300,
            ),
        )
        self.register_outputs({})
