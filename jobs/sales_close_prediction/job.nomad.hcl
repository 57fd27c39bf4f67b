# Trains a model of which customers will close a sale, stores it under a version id of its own, and verifies what was stored.
# Registered by the Pulumi program, dispatched by people: one dispatch makes `count` allocations, and each one is a version.
# README.md has the parameters. Only what Nomad 1.11 knows is used: pulumi-nomad 2.6.1 parses with that release's jobspec2.

variable "count" {
  type        = number
  description = "Allocations of one dispatch, each of which trains and stores its own version. The stack's jobs.<job>.count."
  default     = 1
}

variable "datacenters" {
  type        = list(string)
  description = "Datacenters whose clients may run this job."
  default     = ["*"]
}

variable "node_pool" {
  type        = string
  description = "Node pool whose clients may run this job: one of the stack's nomad.regions.<region>.pools."
  default     = "default"
}

variable "image_tensornode" {
  type        = string
  description = "Full name of the image images/tensornode. The program fills it with the hash of the image's content."
}

variable "train_cpu" {
  type        = number
  description = "CPU of the training in MHz."
  default     = 3054
}

variable "train_memory" {
  type        = number
  description = "Memory of the training in MB."
  default     = 1024
}

variable "store_cpu" {
  type        = number
  description = "CPU of the upload in MHz."
  default     = 500
}

variable "store_memory" {
  type        = number
  description = "Memory of the upload in MB."
  default     = 256
}

variable "verify_cpu" {
  type        = number
  description = "CPU of the scoring in MHz."
  default     = 500
}

variable "verify_memory" {
  type        = number
  description = "Memory of the scoring in MB."
  default     = 512
}

variable "clear_cpu" {
  type        = number
  description = "CPU of the clearing up in MHz."
  default     = 100
}

variable "clear_memory" {
  type        = number
  description = "Memory of the clearing up in MB."
  default     = 128
}

variable "salesforce_hosts" {
  type        = list(string)
  description = "Hosts (host or host:port) that may be sent the Salesforce credentials. None by default: they go nowhere unasked."
  default     = []
}

variable "restart_attempts" {
  type        = number
  description = "How often a failed task is started again in its allocation before the run has failed."
  default     = 2
}

variable "restart_delay" {
  type        = string
  description = "Pause before a failed task is started again."
  default     = "15s"
}

job "sales-close-prediction" {
  type        = "batch"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  parameterized {
    payload       = "forbidden"
    meta_required = ["save_path", "data_path", "prediction_path", "data_url", "gcp_bucket_path", "model_version"]
    meta_optional = ["batch_size", "epochs", "learning_rate", "seed", "min_auc"]
  }

  # Defaults of the optional parameters, equal to parameters.yaml. A dispatch's own meta is merged over these.
  meta {
    batch_size    = "256"
    epochs        = "30"
    learning_rate = "0.004"
    seed          = ""
    min_auc       = "0.6"
  }

  group "training" {
    count = var.count

    # A retry must never train a second copy under another id. A restart keeps the allocation, and so the version id; a
    # rescheduled or replaced allocation would have a new one.
    restart {
      attempts = var.restart_attempts
      delay    = var.restart_delay
      interval = "24h"
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    # `replace = false` alone replaces at once: it only counts while `lost_after` runs (hashicorp/nomad#27028, #27053). So an
    # allocation on a lost node stays `unknown`, which `mlops runs` shows as lost, until its node is back or it is stopped.
    disconnect {
      lost_after = "8760h"
      replace    = false
      reconcile  = "keep_original"
    }

    # Logs, temporary files, and the stored version once more, for its verification; data and models are on the volume.
    ephemeral_disk {
      size = 500
    }

    volume "models" {
      type        = "host"
      source      = "models"
      access_mode = "single-node-multi-writer"
    }

    task "train" {
      driver = "docker"
      # Every task runs as nobody, uid and gid 65534, so that each can read and remove what the one before it wrote.
      user         = "65534:65534"
      kill_timeout = "10s"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image           = var.image_tensornode
        args            = ["train"]
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        pids_limit      = 256
      }

      env {
        RUN_DIR          = "/models/${NOMAD_META_save_path}_v${NOMAD_META_model_version}_${NOMAD_ALLOC_ID}"
        ALLOC_ID         = "${NOMAD_ALLOC_ID}"
        SAVE_PATH        = "${NOMAD_META_save_path}"
        MODEL_VERSION    = "${NOMAD_META_model_version}"
        DATA_URL         = "${NOMAD_META_data_url}"
        DATA_PATH        = "${NOMAD_META_data_path}"
        PREDICTION_PATH  = "${NOMAD_META_prediction_path}"
        BATCH_SIZE       = "${NOMAD_META_batch_size}"
        EPOCHS           = "${NOMAD_META_epochs}"
        LEARNING_RATE    = "${NOMAD_META_learning_rate}"
        SEED             = "${NOMAD_META_seed}"
        MIN_AUC          = "${NOMAD_META_min_auc}"
        SALESFORCE_HOSTS = join(",", var.salesforce_hosts)
        TMPDIR           = "${NOMAD_TASK_DIR}"
      }

      # The path is the one that Nomad lets this job's tasks read without a policy. Without the Variable the job runs too: an
      # http(s) address needs no credentials.
      template {
        destination = "${NOMAD_SECRETS_DIR}/salesforce.env"
        env         = true
        perms       = "0600" # Nomad itself reads it, as root, and hands it to the task as environment
        change_mode = "noop"
        data        = <<-EOT
          {{ if nomadVarExists "nomad/jobs/sales-close-prediction" }}{{ with nomadVar "nomad/jobs/sales-close-prediction" }}
          SALESFORCE_CLIENT_ID={{ .salesforce_client_id | toJSON }}
          SALESFORCE_CLIENT_SECRET={{ .salesforce_client_secret | toJSON }}
          {{ end }}{{ end }}
        EOT
      }

      volume_mount {
        volume      = "models"
        destination = "/models"
      }

      resources {
        cpu    = var.train_cpu
        memory = var.train_memory
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }

    # The leader: it starts when train has succeeded, and when it ends the group ends. It stores the version, hands it over to
    # `verify` in the folder that the allocation's tasks share, and records what that task made of it. A repeat after a kill
    # finds what is done and goes on.
    task "store" {
      driver       = "exec"
      user         = "nobody"
      leader       = true
      kill_timeout = "10s"
      kill_signal  = "SIGTERM"

      config {
        command  = "mlops-registry"
        args     = ["store", "--verify-in", "${NOMAD_ALLOC_DIR}/data", "--wait", "3600"]
        cap_drop = ["all"]
      }

      env {
        RUN_DIR         = "/models/${NOMAD_META_save_path}_v${NOMAD_META_model_version}_${NOMAD_ALLOC_ID}"
        GCP_BUCKET_PATH = "${NOMAD_META_gcp_bucket_path}"
        MODEL           = "sales-close-prediction"
        VERSION_ID      = "${NOMAD_META_save_path}_v${NOMAD_META_model_version}_${NOMAD_ALLOC_ID}"
        LANE            = "nomad"
        ENGINE_RUN      = "${NOMAD_JOB_ID}"
        ALLOC_ID        = "${NOMAD_ALLOC_ID}"
        IMAGE           = var.image_tensornode
      }

      # Who this task is to Google Cloud, where the platform federates with it: the program then keeps a Variable for this
      # group with what Google's libraries have to know. Elsewhere the task has the credentials of its machine.
      identity {
        name = "google"
        aud  = ["google"]
        file = true
        ttl  = "1h"
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/google.env"
        env         = true
        change_mode = "noop"
        data        = <<-EOT
          {{ if nomadVarExists "nomad/jobs/sales-close-prediction/training" }}
          GOOGLE_APPLICATION_CREDENTIALS=/secrets/google.json
          {{ end }}
        EOT
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/google.json"
        change_mode = "noop"
        data        = <<-EOT
          {{ if nomadVarExists "nomad/jobs/sales-close-prediction/training" }}
          {{ with nomadVar "nomad/jobs/sales-close-prediction/training" }}{{ .google_credentials }}{{ end }}
          {{ end }}
        EOT
      }

      volume_mount {
        volume      = "models"
        destination = "/models"
      }

      resources {
        cpu    = var.store_cpu
        memory = var.store_memory
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }

    # Loads the model, which is code, and predicts the examples. It has no identity, no Variable, no network and no volume:
    # what it may know is in the folder that `store` fills, and what it says is compared there.
    task "verify" {
      driver       = "docker"
      user         = "65534:65534"
      kill_timeout = "10s"

      config {
        image           = var.image_tensornode
        entrypoint      = ["mlops-registry"]
        args = [
          "score",
          "--input", "${NOMAD_ALLOC_DIR}/data/version",
          "--output", "${NOMAD_ALLOC_DIR}/data/scored",
          "--wait", "86400", # it is ended with `store`
        ]
        network_mode    = "none"
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        pids_limit      = 256
      }

      env {
        TMPDIR            = "${NOMAD_TASK_DIR}"
        MLOPS_CONFINEMENT = "container" # this one, which is all that the model's program sees
      }

      resources {
        cpu    = var.verify_cpu
        memory = var.verify_memory
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }

    # Runs whatever became of the tasks before, and removes the run's directory, except where it holds a finished training
    # that no bucket took. It has no identity: Nomad issues none any more once a run has failed or was stopped.
    task "clear" {
      driver       = "docker"
      user         = "65534:65534"
      kill_timeout = "10s"

      lifecycle {
        hook    = "poststop"
        sidecar = false
      }

      config {
        image           = var.image_tensornode
        entrypoint      = ["mlops-registry"]
        args            = ["clear"]
        network_mode    = "none"
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        pids_limit      = 256
      }

      env {
        RUN_DIR    = "/models/${NOMAD_META_save_path}_v${NOMAD_META_model_version}_${NOMAD_ALLOC_ID}"
        VERSION_ID = "${NOMAD_META_save_path}_v${NOMAD_META_model_version}_${NOMAD_ALLOC_ID}"
        TMPDIR     = "${NOMAD_TASK_DIR}"
      }

      volume_mount {
        volume      = "models"
        destination = "/models"
      }

      resources {
        cpu    = var.clear_cpu
        memory = var.clear_memory
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }
  }
}
