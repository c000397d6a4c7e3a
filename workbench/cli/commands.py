"""The command line. Exit status: 0 done, 1 failed, 2 wrong usage; errors are one sentence on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import UsageError, WorkbenchError
from workbench.settings import Settings, parse_value

from .presets import presets_app, promote
from .reports import report
from .runs import runs_app, sweep
from .scores import score
from .store import store_app
from .terminal import Json, Quiet, Set, assignments, group, run, say

app = typer.Typer(
    name="workbench",
    help="Tune SDXL faces: generate, sweep, score, promote, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
notebook_app = group("Run notebooks.")
app.add_typer(runs_app, name="runs")
app.add_typer(presets_app, name="presets")
app.add_typer(notebook_app, name="notebook")
app.add_typer(store_app, name="store")
app.command()(score)
app.command()(sweep)
app.command()(report)
app.command()(promote)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The workbench's commands; each has --help with an example."""


@app.command()
def generate(
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="Preset name or file.")] = None,
    picture: Annotated[Path | None, typer.Option("--from", help="Make a workbench PNG again.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What the picture shows.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What it must not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="-1 draws one.")] = None,
    settings: Set = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")] = Path("picture.png"),
    stages: Annotated[bool, typer.Option("--stages", help="Also write every stage's picture beside it.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make one picture.

    Example: workbench generate --preset embedded --seed 3 --set strength=0.3 --set weight=0.8 -o face.png
    """
    from workbench.files import picture_chunks, pixels_sha256, png_bytes, read_settings
    from workbench.presets import load_preset

    if preset and picture:
        raise UsageError("--preset and --from both name the settings; give one of them.")
    start = read_settings(picture) if picture else load_preset(preset or "production").settings
    changes = {n: parse_value(n, text) for n, text in assignments(settings).items()}
    own = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}
    wanted = start.replace(**changes, **{n: v for n, v in own.items() if v is not None and n not in changes})
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} is not a .png; only PNG carries the settings without loss.")
    result = _with_bar(wanted, quiet)
    result.save(output)
    written = [output]
    for name, image in result.stages.items() if stages else ():
        from workbench.files import write_atomic

        path = output.with_name(f"{output.stem}-{name}.png")
        write_atomic(path, png_bytes(image, picture_chunks(image, result.settings, stage=name)))
        written.append(path)
    about = {
        "picture": str(output),
        "pixels_sha256": pixels_sha256(result.image),
        "settings": result.settings.model_dump(),
        "counters": result.counters,
        "faces": len(result.info.get("faces", {}).get("faces", [])) if "faces" in result.info else None,
        "seconds": round(result.seconds, 3),
    }
    say(
        about,
        as_json,
        lambda: f"{', '.join(map(str, written))}  ({about['seconds']:.1f} s, seed {result.settings.seed})",
    )


def _with_bar(settings: Settings, quiet: bool) -> Any:
    from tqdm.auto import tqdm

    from workbench.recipe import generate as make

    with tqdm(total=1, disable=quiet, bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}") as bar:

        def report(stage: str, done: int, total: int) -> None:
            bar.set_description_str(f"{stage:<7}", refresh=False)
            bar.total, bar.n = max(total, 1), done
            bar.refresh()

        return make(settings, report)


@app.command()
def serve(
    preset: Annotated[str, typer.Option("--preset", "-p", help="Preset name or file.")] = "production",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    as_json: Json = False,
) -> None:
    """Serve a preset: POST /generate?prompt=...&seed=42 gives {"image": "data:image/png;base64,..."}.

    Example: workbench serve --preset production --port 7860
    """
    from workbench.presets import load_preset
    from workbench.serve import serve as listen

    loaded = load_preset(preset)
    where = {"url": f"http://{host}:{port}", "preset": loaded.name, "licences": loaded.licences}
    say(
        where,
        as_json,
        lambda: f"serving {loaded.name} at {where['url']}\n" + "\n".join(f"licence: {t}" for t in loaded.licences),
    )
    sys.stdout.flush()
    listen(loaded, host, port)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has: device, weights, detectors, LPIPS, licences. Exit 1 if the embedded model cannot run.

    Example: workbench doctor
    """
    from .doctor import examine

    findings = examine()
    say(
        findings,
        as_json,
        lambda: "\n".join(f"{'ok ' if f['ok'] else 'no '} {f['what']}: {f['said']}" for f in findings),
    )
    if any(f["needed"] and not f["ok"] for f in findings):
        raise WorkbenchError("something that the embedded model needs is missing; install it again with make demo.")


@notebook_app.command("run")
def notebook_run(
    name: Annotated[str, typer.Argument(help="Notebook path, or its name in notebooks/.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Parameter; repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Executed notebook; left out: reports/NAME-<date>.ipynb. HTML beside it."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a notebook by papermill with checked parameters; write it as a report, also as HTML.

    Run again after a failure, it goes on from what is in the store.

    Example: workbench notebook run 02_sweep -p spec=experiments/demo.toml -o report.ipynb
    """
    from workbench.notebook import run_notebook

    done = run_notebook(name, assignments(parameters), output, quiet=quiet)
    say(
        {"notebook": str(done), "html": str(done.with_suffix(".html"))},
        as_json,
        lambda: f"{done}\n{done.with_suffix('.html')}",
    )


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context) -> None:
    """What was here measures the workbench itself, which is no matter of its users."""
    which = next((name for name in ("score", "sweep") if name in context.args), "sweep")
    raise UsageError(f"the benchmarks are no command any more; in a checkout of the workbench run make bench-{which}.")


def main() -> None:
    """Entry point of the command `workbench`."""
    run(app)
