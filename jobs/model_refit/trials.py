"""The trials of a model and the choice among them."""

from hera.workflows import DAG, Artifact, Parameter, Task
from hera.workflows import models as m
from hera.workflows.models.io.k8s.apimachinery.pkg.util.intstr import IntOrString

from definitions.quantities import quantity
from jobs.model_refit.context import Context
from jobs.model_refit.steps import RUN, UID, call, container, folder, memoised

TRIAL_PARAMETERS = ("ntrees", "max_depth", "min_rows", "learn_rate", "sample_rate", "col_sample_rate")


def trials(context: Context) -> DAG:
    """All trials side by side and the choice among them, memoised as one, since the choice depends on all."""
    own = {f"--{name.replace('_', '-')}": f"{{{{inputs.parameters.{name}}}}}" for name in TRIAL_PARAMETERS}
    train = container(
        context,
        "train",
        image="h2o-trainer",
        account="trainer",
        pool="h2o",
        command=["python", "src/train.py"],
        args=[
            "train",
            "--features", "/inputs/features",
            "--output", "/outputs/trial",
            "--trial", "{{inputs.parameters.trial}}",
            "--seed", "{{inputs.parameters.seed}}",
            "--nthreads", str(context.threads),
            "--memory", _half(context.sized("train").memory),
            *(word for option, value in own.items() for word in (option, value)),
        ],
        inputs=[
            *(Parameter(name=name) for name in ("features", "trial", "seed", *TRIAL_PARAMETERS)),
            folder("features", "/inputs/features", "runs/{{inputs.parameters.features}}/features"),
        ],
        outputs=[folder("trial", "/outputs/trial", f"{RUN}/trials/{{{{inputs.parameters.trial}}}}")],
        deadline=3600,
    )  # fmt: skip
    select = container(
        context,
        "select",
        image="h2o-trainer",
        account="trainer",
        command=["python", "src/train.py"],
        args=["select", "/inputs/trials", "--output", "/outputs/model"],
        inputs=[folder("trials", "/inputs/trials", f"{RUN}/trials")],
        outputs=[
            folder("model", "/outputs/model", f"{RUN}/model"),
            Parameter(name="trial", value_from=m.ValueFrom(path="/outputs/model/trial.json")),
        ],
        deadline=600,
    )
    inputs = ("features", "trials", "seed", *TRIAL_PARAMETERS, "memoise")
    with DAG(
        name="trials",
        inputs=[Parameter(name=name) for name in inputs],
        outputs=[
            Parameter(name="run", value_from=m.ValueFrom(expression=f"'{UID}'")),
            Parameter(name="trial", value_from=m.ValueFrom(parameter="{{tasks.select.outputs.parameters.trial}}")),
            Artifact(name="model", from_="{{tasks.select.outputs.artifacts.model}}"),
        ],
        memoize=memoised(
            context, "trials", context.images["h2o-trainer"], [f"inputs.parameters.{name}" for name in inputs[:-1]]
        ),
    ) as dag:
        Task(
            name="train",
            template=train,
            with_sequence=m.Sequence(
                start=IntOrString(root="0"), count=IntOrString(root="{{inputs.parameters.trials}}")
            ),
            arguments={
                "trial": "{{item}}",
                **{name: f"{{{{inputs.parameters.{name}}}}}" for name in ("features", "seed", *TRIAL_PARAMETERS)},
            },
        )
        call("select", select, "train")
    return dag


def _half(memory: str) -> str:
    """Half of a memory request, as a JVM's heap: the other half is Python's and the JVM's own."""
    size = quantity(memory)
    if size is None:
        raise ValueError(f"resources: train: memory {memory!r} is not like 512Mi or 2Gi")
    return f"{int(size / 2**20 / 2)}m"
