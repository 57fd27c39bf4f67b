"""What runs on the engines: training jobs and workflow templates as managed resources."""
