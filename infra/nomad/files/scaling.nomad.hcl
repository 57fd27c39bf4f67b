# What scales a region's pools of clients: Nomad Autoscaler, and the Prometheus that it asks how many runs there are.
# Registered by infra/nomad/autoscaling.py, which writes the policies; always running, in a pool that never goes to zero.

variable "node_pool" {
  type        = string
  description = "The system pool."
}

variable "image_prometheus" {
  type        = string
  description = "Full name of Prometheus' image."
}

variable "image_autoscaler" {
  type        = string
  description = "Full name of Nomad Autoscaler's image."
}

variable "prometheus_config" {
  type        = string
  description = "Prometheus' configuration."
}

variable "policies" {
  type        = string
  description = "A `scaling` block for each pool that scales."
}

job "scaling" {
  type        = "service"
  namespace   = "platform"
  datacenters = ["*"]
  node_pool   = var.node_pool
  priority    = 90

  group "scaling" {
    # Never two: each would undo what the other does. While it is replaced, nothing scales, and nothing is lost.
    count = 1

    network {
      port "prometheus" {
        to = 9090
      }
    }

    restart {
      attempts = 10
      interval = "10m"
      delay    = "15s"
      mode     = "delay"
    }

    update {
      max_parallel      = 1
      min_healthy_time  = "15s"
      healthy_deadline  = "10m"
      progress_deadline = "15m"
      auto_revert       = true
      health_check      = "task_states"
    }

    task "prometheus" {
      driver = "docker"
      user   = "65534:65534"

      # Starts before the autoscaler, and outlives it.
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }

      config {
        image = var.image_prometheus
        args = [
          "--config.file=/local/prometheus.json",
          "--storage.tsdb.path=/alloc/data/prometheus",
          # It is asked for how things are, not for how they were.
          "--storage.tsdb.retention.time=2h",
        ]
        ports           = ["prometheus"]
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
      }

      env {
        GOOGLE_APPLICATION_CREDENTIALS = "/secrets/google.json"
      }

      identity {
        name = "google"
        aud  = ["google"]
        file = true
        ttl  = "1h"
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/google.json"
        change_mode = "noop"
        data        = "{{ with nomadVar \"nomad/jobs/scaling/scaling\" }}{{ .google_credentials }}{{ end }}"
      }

      template {
        destination = "${NOMAD_TASK_DIR}/ca.pem"
        change_mode = "restart"
        data        = "{{ with nomadVar \"nomad/jobs/scaling/scaling\" }}{{ .ca_pem }}{{ end }}"
      }

      template {
        destination = "${NOMAD_TASK_DIR}/prometheus.json"
        change_mode = "restart"
        data        = var.prometheus_config
      }

      resources {
        cpu    = 300
        memory = 512
      }
    }

    task "autoscaler" {
      driver = "docker"
      user   = "65534:65534"

      config {
        image           = var.image_autoscaler
        command         = "nomad-autoscaler"
        args            = ["agent", "-config", "/local/autoscaler.hcl"]
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
      }

      env {
        NOMAD_ADDR                     = "unix:///secrets/api.sock"
        GOOGLE_APPLICATION_CREDENTIALS = "/secrets/google.json"
        TMPDIR                         = "/local"
      }

      # The token of this task, NOMAD_TOKEN; what it may do is said by the policy that is bound to the job.
      identity {
        env = true
      }

      identity {
        name = "google"
        aud  = ["google"]
        file = true
        ttl  = "1h"
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/google.json"
        change_mode = "noop"
        data        = "{{ with nomadVar \"nomad/jobs/scaling/scaling\" }}{{ .google_credentials }}{{ end }}"
      }

      template {
        destination = "${NOMAD_TASK_DIR}/autoscaler.hcl"
        change_mode = "restart"
        data        = <<-EOT
          plugin_dir = "/nowhere"

          nomad {
            address = "unix:///secrets/api.sock"
          }

          apm "prometheus" {
            driver = "prometheus"
            config = {
              address = "http://{{ env "NOMAD_ADDR_prometheus" }}"
            }
          }

          strategy "pass-through" {
            driver = "pass-through"
          }

          target "gce-mig" {
            driver = "gce-mig"
            config = {
              credentials = "/secrets/google.json"
              # Of ten seconds each: a machine is up in about two minutes.
              retry_attempts = "30"
            }
          }

          policy {
            dir = "/local/policies"

            source "nomad" {
              enabled = false
            }
          }
        EOT
      }

      template {
        destination = "${NOMAD_TASK_DIR}/policies/pools.hcl"
        change_mode = "restart"
        data        = var.policies
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
