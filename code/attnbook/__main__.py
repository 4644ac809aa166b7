"""The command line: `python -m attnbook`, installed as `attnbook`."""

import functools
import json
import textwrap
from itertools import zip_longest
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from attnbook import __version__, models
from attnbook.check import expect
from attnbook.models.architecture import MIXERS
from attnbook.models.fit import bytes_of, count_of
from attnbook.models.ledger import BITS
from attnbook.models.source import there
from attnbook.models.words import human, number

LEGEND = "\n".join(f"  {letter}  {name}: {what}" for name, (letter, what)
                   in MIXERS.items())  # fmt: skip
FORMATS = click.Choice(list(BITS))


class Refused(click.ClickException):
    """A message on standard error and exit code 2, as for a wrong option."""

    exit_code = 2


def refusing(command):
    """The command, with a ValueError shown as a message and not as a traceback."""

    @functools.wraps(command)
    def careful(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except ValueError as error:
            raise Refused(str(error)) from error

    return careful


def complete(context, parameter, start):
    """Names for the shell: files, and the models of the gallery."""
    names = [hub_name(row) for row in models.gallery() if row.file]
    found = [CompletionItem(name) for name in names if name.startswith(start)]
    return [CompletionItem(start, type="file"), *found]


def hub_name(row):
    """publisher/name of a row that has a file."""
    return row.file.removesuffix(".json").replace("--", "/")


def config_argument(name="config"):
    """A CONFIG argument."""
    return click.argument(name, metavar=name.upper(), shell_complete=complete)


def size_options(command):
    """--context, --batch and --dtype, in this order."""
    for option in (
        click.option("--dtype", type=FORMATS, default="bf16", show_default=True,
                     help="Format of keys, values and latents."),
        click.option("--batch", type=int, default=1, show_default=True,
                     help="Texts at the same time."),
        click.option("--context", type=int, metavar="TOKENS",
                     help="Tokens of each text.  [default: the model's maximum]"),
    ):  # fmt: skip
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(
    context_settings=dict(help_option_names=["-h", "--help"], max_content_width=88),
    epilog="""CONFIG is a config.json, a folder that holds one, - for standard input, a
    model of the gallery (see: attnbook list), or publisher/name on the Hugging Face
    hub, if huggingface_hub is installed. Nothing in a file is executed. Exit code 2
    means that the input was refused; the message says why.""",
)
@click.version_option(__version__, prog_name="attnbook")
def cli():
    """What a language model keeps of a text, from its config.json.

    \b
    attnbook kv openai/gpt-oss-120b --context 131072
    attnbook fit config.json --memory 80GB --dtype fp8
    attnbook diff meta-llama/Meta-Llama-3-8B mistralai/Mistral-7B-v0.1
    attnbook list --mixer window
    attnbook card openai/gpt-oss-120b -o card.svg
    attnbook poster --all -o poster.pdf

    For completion in bash: eval "$(_ATTNBOOK_COMPLETE=bash_source attnbook)"
    (zsh_source and fish_source for the other two).
    """


@cli.command(epilog="The letters of the strip:\n\n\b\n" + LEGEND)
@config_argument()
@size_options
@as_json
@refusing
def kv(config, context, batch, dtype, as_json):
    """The bytes of CONFIG's cache.

    Tables print bytes per token as if every layer kept all tokens. Windows stop
    growing, states never grow, and layers may share a cache: so what really grows is
    shown beside it, and what is held in all at this context.
    """
    found = models.load(config)
    context, assumed = tokens(found, context)
    bill = models.ledger(found, context, batch, dtype)
    if as_json:
        click.echo(dump(bill.as_dict()))
        return
    click.echo(headline(found))
    click.echo(strip(found.strip))
    click.echo(f"\n{dtype}, {texts(batch)} of {context:,} tokens{assumed}")
    for label, amount in bill_lines(bill):
        click.echo(f"  {label:<42}{amount}")
    remarks(bill.notes, bill.unknown)


@cli.command("list")
@click.option("--mixer", metavar="WORD", help="Only models with such layers.")
@click.option("--developer", metavar="WORD", help="Only models of this developer.")
@click.option("--essential", is_flag=True, help="Only the models of the core set.")
@as_json
@refusing
def list_models(mixer, developer, essential, as_json):
    """The models of the gallery, with the KiB of a token in bf16.

    "all" counts every layer at full length, as published tables do; "grows" what each
    further token really adds. A ? marks a date that no source confirms.
    """
    rows = [
        row for row in models.gallery()
        if (not essential or row.essential)
        and (not developer or developer.lower() in row.developer.lower())
        and (not mixer or any(mixer.lower() in k for k in row.architecture.mix))
    ]  # fmt: skip
    if as_json:
        click.echo(dump([entry(row) for row in rows]))
        return
    click.echo(f"{'model':<31}{'date':<9}{'all':>7}{'grows':>8}  layers")
    for row in rows:
        line = entry(row)
        date = (row.released or "?") + ("" if row.release_checked else "?")[:1]
        kib = [
            "?" if line[k] is None else f"{line[k] / 1024:.1f}"
            for k in ("bytes_per_token_all_layers", "bytes_per_token_growing")
        ]
        mix = ", ".join(f"{n} {kind}" for kind, n in line["layer_mix"].items())
        click.echo(f"{row.name:<31}{date.replace('??', '?'):<9}{kib[0]:>7}{kib[1]:>8}"
                   f"  {mix}")  # fmt: skip
    click.echo("1 model" if len(rows) == 1 else f"{len(rows)} models")


def entry(row):
    """A row of the gallery as `list --json` prints it."""
    bill = models.ledger(row.architecture, 1)
    everything, active = models.parameters(row.architecture)
    return dict(
        name=row.name, developer=row.developer, released=row.released,
        release_checked=row.release_checked, essential=row.essential,
        config=hub_name(row) if row.file else None, layers=bill.layers,
        layer_mix=bill.layer_mix, context=row.architecture.context,
        bytes_per_token_all_layers=bill.bytes_per_token_all_layers,
        bytes_per_token_growing=bill.bytes_per_token_growing,
        published_kib_per_token=row.published_kib, parameters=everything,
        active_parameters=active, confidence=row.confidence,
        sources=list(row.sources),
    )  # fmt: skip


@cli.command()
@config_argument()
@click.option("--memory", required=True, metavar="SIZE",
              help="Such as 80GB (10^9 bytes each) or 24GiB (2^30).")  # fmt: skip
@size_options
@click.option("--weights", type=FORMATS, default="bf16", show_default=True,
              help="Format of the weights.")  # fmt: skip
@click.option("--parameters", metavar="COUNT",
              help="Such as 8.03B, where the file does not tell.")  # fmt: skip
@as_json
@refusing
def fit(config, memory, context, batch, dtype, weights, parameters, as_json):
    """Whether CONFIG fits a memory, and how far it goes.

    Weights and cache are counted in the formats that you choose; then what is left, the
    longest context for this batch, and the largest batch for this context.
    """
    found, size = models.load(config), bytes_of(memory)
    count = None if parameters is None else count_of(parameters)
    context, assumed = tokens(found, context)
    result = models.fit(found, size, context, batch, weights, dtype, count)
    if as_json:
        click.echo(dump(result.as_dict()))
        return
    click.echo(headline(found))
    click.echo(
        f"\n{memory} ({human(size)}): {texts(batch)} of {context:,} tokens{assumed}"
    )
    for label, amount in fit_lines(result, weights, dtype):
        click.echo(f"  {label:<42}{amount}")
    unknown = found.unknown if result.weight_bytes else (*found.unknown, "parameters")
    remarks(result.notes, unknown)


@cli.command("export")
@config_argument()
@refusing
def export_model(config):
    """What each kind of layer of CONFIG keeps, as JSON.

    This is what the calculator page of the book counts with: numbers of one layer
    before a context, a batch and a format are chosen.
    """
    click.echo(dump(models.export(models.load(config))))


@cli.command()
@config_argument("a")
@config_argument("b")
@size_options
@click.option("-o", "--output", metavar="FILE",
              help="Draw it too: .svg, .png or .pdf.")  # fmt: skip
@as_json
@refusing
def diff(a, b, context, batch, dtype, output, as_json):
    """What differs between two models, A and B.

    The layers of both as strips, one letter a layer (attnbook kv --help has the
    legend), the sizes that differ, and the two caches side by side. With -o the same as
    a figure, at 16 bits a number.
    """
    check_output(output)
    first, second = models.load(a), models.load(b)
    limits = [one.context for one in (first, second) if one.context]
    context = context if context is not None else min(limits, default=8192)
    found = models.compare(first, second, context, batch, dtype)
    if output is not None:
        draw = drawing()
        figure = draw.pair.plot(first, second, context)
        said = draw.pair.describe(first, second, context)
        draw.sheet.save(figure, output, f"{first.name} and {second.name}", said)
    if as_json:
        click.echo(dump(found | {"context": context, "batch": batch, "dtype": dtype}))
        return
    click.echo(f"{headline(first)}\n{headline(second)}\n")
    click.echo(strips(*found["strips"]))
    click.echo("\nno difference" if found["same"] else "\nwhat differs")
    for name, (ours, theirs) in found["differences"].items():
        click.echo(f"  {name:<30}{words(ours)}  |  {words(theirs)}")
    click.echo(f"\n{dtype}, {texts(batch)} of {context:,} tokens")
    for name, pair in found["ledger"].items():
        ours, theirs = map(human, pair)
        click.echo(f"  {LABELS[name]:<42}{ours:>13}  |  {theirs}")
    if output is not None:
        click.echo(f"\nwrote {output}")


@cli.command()
@config_argument()
@click.option("-o", "--output", metavar="FILE", required=True,
              help="Where to: .svg, .png or .pdf.")  # fmt: skip
@refusing
def card(config, output):
    """Draw the card of CONFIG.

    Layers, heads, sizes, positions, and the cache at 8,192 tokens, at 131,072 and at
    the model's maximum. The ground is transparent and the ink grey, for light pages and
    dark ones; the same in words stands in the file, for screen readers.
    """
    check_output(output)
    found = models.load(config)
    row, draw = row_of(config, found), drawing()
    said = draw.card_words.describe(found, row)
    figure = draw.card.plot(found, row)
    draw.sheet.save(figure, output, f"Card of {found.name}", said)
    click.echo(f"wrote {output}")


@cli.command()
@click.argument(
    "folder",
    required=False,
    metavar="[DIR]",
    type=click.Path(exists=True, file_okay=False),
)
@click.option("--all", "everything", is_flag=True, help="All models of the gallery.")
@click.option("-o", "--output", metavar="FILE", required=True, help="A name in .pdf.")
@click.option(
    "--paper",
    default="A1",
    show_default=True,
    metavar="SIZE",
    help="A0 to A4, or width x height such as 841x594mm.",
)
@click.option("--title", default="Attention in modern LLMs", show_default=True)
@refusing
def poster(folder, everything, output, paper, title):
    """Draw the cards of all files in DIR, or of the gallery, on one sheet.

    DIR holds config.json files under any name that ends in .json, or folders with a
    config.json each. Cards are as large as the paper allows. Text has at least 6
    points: where the cards do not fit on one sheet so, there are several.
    """  # fmt: skip
    check_output(output, ("pdf",))
    draw = drawing().poster
    draw.paper_size(paper)
    chosen = models_of(folder, everything)
    figures = draw.poster(chosen, paper, title, progress=progress("cards"))
    count = draw.save_poster(figures, output, title, progress=progress("sheets"))
    sheets = "1 sheet" if count == 1 else f"{count} sheets"
    click.echo(f"wrote {output}: {len(chosen)} models on {sheets}")


def drawing():
    """attnbook.draw, its look set; Matplotlib is loaded only where it is needed."""
    import matplotlib

    matplotlib.use("agg")
    from attnbook import draw
    from attnbook.draw import card, card_words, pair, poster, sheet  # noqa: F401

    draw.plt.style.use("attnbook.draw.book")
    return draw


def check_output(path, kinds=("svg", "png", "pdf")):
    """Refuse a file name before any work is done. Raises: ValueError."""
    if path is None:
        return
    kind = Path(path).suffix.lower().removeprefix(".")
    wanted = "a name that ends in " + " or ".join(f".{one}" for one in kinds)
    expect(kind in kinds, "output", repr(path)[:80], wanted)
    expect(not there(Path(path)) or Path(path).is_file(), "output", repr(path)[:80],
           "a file, not a folder or a device")  # fmt: skip
    expect(there(Path(path).absolute().parent), "output", repr(path)[:80],
           "a folder that exists")  # fmt: skip


def row_of(config, found):
    """The gallery's row of a model, or None; of a file only if it says the same."""
    path = Path(config)
    if not there(path):
        return models.find(config)
    name = path.name if path.is_file() and path.name != "config.json" else None
    row = models.find(name or path.resolve().name)
    same = row is not None and row.architecture.layers == found.layers
    return row if same and row.architecture.C == found.C else None


def models_of(folder, everything):
    """(architecture, row) of each model of a poster, the gallery's by date."""
    expect((folder is None) == everything, "poster", folder or "no folder",
           "either DIR or --all")  # fmt: skip
    if everything:
        rows = sorted(models.gallery(), key=lambda row: (row.released or "9", row.name))
        return [(row.architecture, row) for row in rows]
    paths = [*Path(folder).glob("*.json"), *Path(folder).glob("*/config.json")]
    expect(paths, "poster", folder, "a folder with config.json files")
    found = []
    for path in sorted(paths):
        try:
            found.append((models.load(path), path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return [(one, row_of(path, one)) for one, path in found]


def progress(what):
    """A bar on standard error while something is worked off, if that is a terminal."""
    from tqdm import tqdm

    return functools.partial(tqdm, desc=what, disable=None, leave=False)


# --- words ----------------------------------------------------------------------------

LABELS = {
    "bytes_per_token_all_layers": "a token, if every layer kept all tokens",
    "bytes_per_token_growing": "a token, what really grows",
    "window_bytes_max": "windows, at most",
    "state_bytes": "recurrent states",
    "indexer_bytes_per_token": "keys of indexers, a token",
    "total_bytes": "in all, at this context",
}


def tokens(architecture, context):
    """The context that is meant, and a remark where it was not given."""
    if context is not None:
        return context, ""
    limit = architecture.context
    return (8192, " (assumed)") if limit is None else (limit, ", the model's maximum")


def headline(architecture):
    """Name, type and layers of a model on one line."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in architecture.mix.items())
    return f"{architecture.name}: {len(architecture.layers)} layers ({kinds})"


def strip(letters, width=72):
    """The layers as letters, broken after so many."""
    return "\n".join(pieces(letters, width))


def strips(ours, theirs, width=72):
    """Two strips above each other, broken at the same layers."""
    rows = zip_longest(pieces(ours, width), pieces(theirs, width), fillvalue="")
    return "\n\n".join(f"{above}\n{below}" for above, below in rows)


def pieces(letters, width):
    """The letters in pieces of a width."""
    return [letters[i : i + width] for i in range(0, len(letters), width)]


def bill_lines(bill):
    """(label, amount) of each figure of a ledger."""
    return [(label, human(getattr(bill, name))) for name, label in LABELS.items()]


def fit_lines(result, weights, dtype):
    """(label, amount) of each figure of a fit."""
    left = result.left
    longest = "any" if result.endless else number(result.longest_context)
    limit = result.context_limit
    beyond = limit and (result.endless or (result.longest_context or 0) > limit)
    if beyond:
        longest += f" tokens; the model takes {limit:,}"
    else:
        longest += " tokens"
    rest = "left" if left is None or left >= 0 else "missing"
    return [
        (f"weights, {number(result.parameters)} in {weights}",
         human(result.weight_bytes)),
        (f"cache in {dtype}", human(result.cache_bytes)),
        (rest, human(None if left is None else abs(left))),
        ("longest context for this batch", longest),
        ("largest batch at this context", number(result.largest_batch) + " texts"),
    ]  # fmt: skip


def texts(batch):
    """The batch in words."""
    return "1 text" if batch == 1 else f"{batch:,} texts"


def words(value):
    """A value of a comparison in words."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return " / ".join(words(one) for one in value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if whole else str(value)


def remarks(notes, unknown):
    """Print notes, and what was not found."""
    for note in notes:
        click.echo(textwrap.fill(note, 86, initial_indent="note: ",
                                 subsequent_indent="      "))  # fmt: skip
    if unknown:
        click.echo(f"not found: {', '.join(unknown)}")


def dump(found):
    """JSON, strict and indented."""
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)


def main():
    """Run the command line."""
    cli(prog_name="attnbook")


if __name__ == "__main__":
    main()
