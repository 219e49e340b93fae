# SPDX-License-Identifier: Apache-2.0
"""The run from its options to its report."""

import os
import pathlib
import re
import resource
import signal
import sys

from . import machine, options as command_line, peers
from .cache import PageCache
from .ciphers import Ciphers
from .growth import Growth
from .images import Images
from .measure import Matrix, Memory, Starting
from .migration import Migration
from .plot import Plot
from .process import Failed, Quiet
from .report import Report
from .results import Results, Row
from .session import Session
from .targets import Targets
from .writes import Writes


def main():
    """Gives the exit status: 0 when all of it could be measured, whether or not the targets are met."""
    options = command_line.parse()
    try:
        if options.only:
            re.compile(options.only)
    except re.error as error:
        return complain([f"--only '{options.only}' is no regular expression: {error}"])
    missing = peers.enter(os.path.realpath(options.directory)) or machine.missing_tools()
    if missing:
        return complain(missing)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    images = Images(options.directory, options.size)
    session = Session(options, images, PageCache(), Quiet(options.patience), Results())
    parts = [Matrix(session, "warm", options.rounds), Matrix(session, "cold", options.cold_rounds),
             Starting(session, options.growth_rounds), Memory(session, options.growth_rounds),
             Growth(session, options.growth_rounds, options.quick),
             Writes(session, options.rounds, options.growth_rounds), Migration(session, options.rounds),
             Ciphers(session, options.rounds)]
    session.total = sum(part.seconds() for part in parts)
    if options.list:
        print("\n".join(names(parts)))
    print(f"This takes about {max(1, round(session.total / 60))} minutes, more if other programs are busy or if images "
          f"have to be made in {images.directory}.", file=sys.stderr, flush=True)
    if options.list:
        return 0
    if session.total == 0:
        return complain([f"--only '{options.only}' fits nothing; --list shows the names"])

    interrupted = False
    try:
        images.check_room()
        prepare(session, parts)
        for part in parts:
            part.run()
    except KeyboardInterrupt:
        interrupted = True
    except Failed as error:
        return complain([error])
    session.end_line()
    write(session, interrupted)
    return 130 if interrupted else 1 if session.results.failures else 0


def prepare(session, parts):
    """Makes all images before anything is measured, and has them on the disk: writing would disturb."""
    made = {}
    for part in parts:
        made.update(part.prerequisites())
    for name, make in made.items():
        session.say(f"making images: {name}")
        try:
            make()
        except (Failed, OSError) as error:
            session.failed(Row("images", name, "*"), "all servers", error)
    os.sync()
    session.milestone("images: ready")


def complain(sentences):
    for sentence in sentences:
        print(f"Benchmarks/run: {sentence}.", file=sys.stderr)
    return 2


def names(parts):
    for part in parts:
        if isinstance(part, Matrix):
            yield from (f"{part.part}/{kind}/{cell.name}" for kind, (_, cells) in part.plan.items() for cell in cells)
        elif isinstance(part, Starting):
            yield from (f"start/{kind}/first byte" for kind in part.kinds)
        elif isinstance(part, Memory):
            yield from dict.fromkeys(f"memory/{kind}/{cell}" for kind, _, cell in part.plan)
        elif isinstance(part, Growth):
            yield from dict.fromkeys(str(point.row) for point in part.points)
        else:
            yield from part.names()


def write(session, interrupted):
    """Prints the summary and writes the three files."""
    options, quiet = session.options, session.quiet
    notes = []
    if quiet.waits:
        notes.append(f"{quiet.busy} of {quiet.waits} measurements began while other programs were busy")
    if options.quick:
        notes.append("a quick run: it shows that everything works, its figures mean little")
    if options.only:
        notes.append(f"only what fits '{options.only}'")
    if interrupted:
        notes.append("interrupted: what is missing was not measured")
    about = machine.describe(options, session.cache, session.images)
    targets = Targets(session.results).judge()
    report = Report(session.results, targets, about, notes)
    output = pathlib.Path(f"{options.directory}/results" if interrupted else options.output)
    output.mkdir(parents=True, exist_ok=True)
    name = options.name
    (output / f"{name}.json").write_text(session.results.to_json({**about, "notes": notes}, targets))
    plot = f"{name}.svg" if session.results.rows("warm") else None
    (output / f"{name}.md").write_text(report.markdown(plot))
    if plot:
        (output / plot).write_text(Plot(session.results, about).svg())
    print(report.summary())
    print("\n".join(f"Note: {note}." for note in notes))
    print(f"Written: {output}/{name}.md, .json{' and .svg' if plot else ''}.")
