"""The refit lane: Spark, H2O and a verified Java library, as Argo templates."""
