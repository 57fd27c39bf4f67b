"""When someone is told by mail: where alerts go, and the budget.

Owns the channels of notification, which every room's alerts use, and the budget. A budget stops nothing: it tells.
"""

import pulumi
from pulumi_gcp import billing, monitoring

from infra.labels import labels
from infra.settings import PROJECT, Settings


class Notices(pulumi.ComponentResource):
    """Who is told, and of which costs.

    Attributes:
        channels: A channel of notification for each of `gcp.alert_emails`.
    """

    channels: list[monitoring.NotificationChannel]

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:foundation:Notices", name, None, opts)
        google = settings.gcp
        assert google, "the settings were checked"  # noqa: S101
        below = pulumi.ResourceOptions(parent=self)
        self.channels = [
            monitoring.NotificationChannel(
                f"{name}-{email}",
                display_name=f"mlops: {email}",
                description="Alerts of the platform.",
                type="email",
                labels={"email_address": email},
                user_labels=labels(settings, "alerts"),
                opts=below,
            )
            for email in google.alert_emails
        ]
        if google.budget:
            billing.Budget(
                f"{name}-budget",
                billing_account=google.budget.billing_account,
                display_name=f"mlops: {google.project}",
                # With the whole month's costs, before credits: those end one day.
                budget_filter=billing.BudgetBudgetFilterArgs(
                    projects=[f"projects/{google.project_number}"],
                    credit_types_treatment="EXCLUDE_ALL_CREDITS",
                    calendar_period="MONTH",
                ),
                amount=billing.BudgetAmountArgs(
                    specified_amount=billing.BudgetAmountSpecifiedAmountArgs(
                        currency_code=google.budget.currency, units=str(google.budget.monthly_amount)
                    )
                ),
                threshold_rules=[
                    billing.BudgetThresholdRuleArgs(threshold_percent=part, spend_basis="CURRENT_SPEND")
                    for part in google.budget.thresholds
                ],
                # The account's billing users are told anyhow; a budget takes five channels more.
                all_updates_rule=billing.BudgetAllUpdatesRuleArgs(
                    monitoring_notification_channels=[channel.name for channel in self.channels[:5]],
                )
                if self.channels
                else None,
                opts=below,
            )
        self.register_outputs({})
