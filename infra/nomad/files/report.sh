#!/bin/bash
# Tells Cloud Monitoring how Nomad is, for the alerts in infra/nomad/alerts.py. What only the leader knows, only it tells:
# where nobody does, there is no leader.
set -euo pipefail
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

# Failed allocations are counted until Nomad collects them: told is by how many there are more than at the last report.
seen=/run/mlops-failed
curl --fail --silent --show-error --cacert "$TLS/ca.pem" https://127.0.0.1:4646/v1/metrics >/run/mlops-metrics.json
failed=$(jq '[.Gauges[] | select(.Name == "nomad.nomad.job_summary.failed") | .Value] | add // 0 | floor' /run/mlops-metrics.json)
last=$(cat "$seen" 2>/dev/null || echo "$failed")
echo "$failed" >"$seen"
expires=$(date --date "$(openssl x509 -enddate -noout -in "$TLS/certificate.pem" | cut -d= -f2)" +%s)

jq --arg project "$PROJECT" --arg region "$NOMAD_REGION" --arg now "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" \
    --arg instance "$(metadata instance/id)" --arg zone "$(metadata instance/zone | sed 's|.*/||')" \
    --argjson failed $((failed > last ? failed - last : 0)) --argjson days $(((expires - $(date +%s)) / 86400)) '
    def gauge($name): [.Gauges[] | select(.Name == $name) | .Value][0];
    def series($name; $value): {
        metric: {type: "custom.googleapis.com/mlops/nomad/\($name)", labels: {region: $region}},
        resource: {type: "gce_instance", labels: {project_id: $project, instance_id: $instance, zone: $zone}},
        points: [{interval: {endTime: $now}, value: {doubleValue: $value}}]
    };
    gauge("nomad.nomad.autopilot.healthy") as $healthy
    | gauge("nomad.nomad.autopilot.failure_tolerance") as $tolerance
    | {timeSeries: [
        series("certificate_days"; $days),
        if $healthy != null then
            series("healthy"; $healthy), series("failure_tolerance"; $tolerance // 0), series("failed_runs"; $failed)
        else empty end
    ]}' /run/mlops-metrics.json >/run/mlops-report.json
google --request POST --header 'Content-Type: application/json' --data-binary @/run/mlops-report.json --output /dev/null \
    "https://monitoring.googleapis.com/v3/projects/$PROJECT/timeSeries"
