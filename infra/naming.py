"""Names: how a folder of the project is called in the systems that the program registers it with. Pure functions."""


def job_id(folder: str) -> str:
    """The id of the job in `jobs/<folder>/`: `sales_close_prediction` -> `sales-close-prediction`."""
    return folder.replace("_", "-")


def image_variable(folder: str) -> str:
    """The HCL variable for the full name of the image in `images/<folder>/`: `h2o-trainer` -> `image_h2o_trainer`."""
    return "image_" + folder.replace("-", "_")
