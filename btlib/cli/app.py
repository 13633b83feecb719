"""The table of commands behind `btlib`."""

import typer

from btlib.cli import (
    answers,
    check,
    checkpoints,
    course,
    exam,
    gpu,
    guard,
    handout,
    paper,
    repair,
    scan,
    site,
    slides,
    tasks,
)

app = typer.Typer(
    help="A notebook course on backdoors in neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# A new command: write its function in a module of its own, add a line here.
app.command("check")(check.command)
app.command("course")(course.command)
app.command("site")(site.command)
app.command("slides")(slides.command)
app.command("checkpoints")(checkpoints.command)
app.command("gpu")(gpu.command)
app.command("guard")(guard.command)
app.command("paper")(paper.command)
app.command("scan")(scan.command)
app.command("repair")(repair.command)
app.command("answers")(answers.command)
app.add_typer(exam.app, name="exam")
app.command("handout")(handout.command)
app.command("test")(tasks.run_steps)
app.command("lab")(tasks.lab)
app.command("clean")(tasks.clean)
