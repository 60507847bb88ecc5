"""The timeline as it is written, to a file and to a terminal."""

from io import BytesIO, StringIO, TextIOWrapper

from clocks import FakeClock
from rich.console import Console

from gateway.demo.timeline import Timeline


def written(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_rows(console: Console, clock: FakeClock) -> None:
    """A row has the time since the start, the step, the status and a sentence."""
    timeline = Timeline(console, clock)
    timeline.chapter("A title")
    clock.advance(1.234)
    timeline.done("issue", 200, "tokens")
    timeline.done("window", None, "3s")
    timeline.failed("call", 401, "expected 200, got 401")
    assert written(console) == (
        "\n"
        "A title\n"
        "  1.23s  ✓  issue           200  tokens\n"
        "  1.23s  ✓  window               3s\n"
        "  1.23s  ✗  call            401  expected 200, got 401\n"
    )


def test_long_sentences(console: Console, clock: FakeClock) -> None:
    """A long sentence goes on below itself, and no line has spaces at its end."""
    Timeline(console, clock).done("call", 200, "one two three four five six seven eight nine ten")
    assert written(console) == (
        "  0.00s  ✓  call            200  one two three four five six seven eight nine\n"
        "                                 ten\n"
    )


def test_waiting_in_a_file(console: Console, clock: FakeClock) -> None:
    """A wait is written now and then, not at every call."""
    timeline = Timeline(console, clock)
    with timeline.running():
        for quarter in range(41):
            elapsed = quarter / 4
            timeline.waiting("wait", 200, f"{elapsed:g}", elapsed=elapsed, total=10)
            clock.advance(0.25)
    rows = written(console).splitlines()
    assert [row.split()[-1] for row in rows] == ["0", "2", "4", "6", "8", "10"]


def test_waiting_on_a_terminal(clock: FakeClock) -> None:
    """A wait is one row, written over: what is done stays, the wait doesn't."""
    console = Console(file=StringIO(), width=80, force_terminal=True, color_system=None)
    timeline = Timeline(console, clock)
    with timeline.running():
        timeline.waiting("wait", 200, "one", elapsed=1, total=3)
        timeline.waiting("wait", 200, "two", elapsed=2, total=3)
        timeline.done("done", 200, "three")
    on_screen = screen(written(console))
    assert [line.split()[-1] for line in on_screen] == ["three"]
    assert "one" in written(console)


def test_other_encodings(clock: FakeClock) -> None:
    """Where the marks can't be written, there are others."""
    raw = BytesIO()
    with TextIOWrapper(raw, encoding="ascii") as file:
        timeline = Timeline(Console(file=file, width=80), clock)
        timeline.done("issue", 200, "tokens")
        timeline.failed("call", 401, "no")
        file.flush()
        marks = [line.split()[1] for line in raw.getvalue().decode().splitlines()]
    assert marks == ["+", "!"]


def screen(text: str) -> list[str]:
    """Return the lines that a terminal shows: of its language, as much as is used here."""
    lines, row = [""], 0
    for part in text.replace("\x1b[?25l", "").replace("\x1b[?25h", "").split("\x1b"):
        code, rest = "", part
        if part.startswith("["):
            code, rest = part[1:3], part[3:]
        if code == "1A":
            row -= 1
        elif code == "2K":
            lines[row] = ""
        for char in rest:
            if char == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif char != "\r":
                lines[row] += char
    return [line for line in lines if line.strip()]
