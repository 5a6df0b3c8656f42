"""Plain sentences about nothing in particular: what drift and steering are measured on by default."""

from __future__ import annotations

from pathlib import Path

from fettle.errors import DataError

NEUTRAL = tuple(
    """The bus leaves at ten past seven from the stop near the bridge.
Please put the boxes on the second shelf behind the door.
The meeting was moved from Tuesday to Thursday afternoon.
A kilogram of flour is enough for two large loaves.
The report has twelve pages and three tables.
Turn left after the post office and walk straight on.
The window on the north side does not close properly.
She bought a pencil, a ruler and a sheet of paper.
The train was eight minutes late this morning.
Water boils at a lower temperature on a mountain.
The shop opens at nine and closes at half past six.
He wrote the address on the back of an envelope.
There are four chairs around the table in the kitchen.
The library has moved to the building across the street.
Add two spoons of sugar and stir until it dissolves.
The parcel arrived on Monday in a grey carton.
The road is narrow between the mill and the school.
Copy the second column into a new sheet.
The lamp in the hall needs a new bulb.
Most of the leaves had fallen by the end of October.
The form asks for a name, a date and a signature.
The ferry crosses the lake four times a day.
They painted the fence green last spring.
The recipe calls for three eggs and a cup of milk.
The clock above the door runs five minutes fast.
You can find the key in the drawer on the right.
The lecture will be held in room twelve on the ground floor.
It rained in the morning and cleared up after noon.
The printer is out of paper again.
A new bridge is being built south of the town.
The list is sorted by date and then by name.
His coat hangs on the hook beside the mirror.
The file is stored in the folder of the current year.
The path follows the river for about two miles.
The store sells bread, cheese and vegetables.
The second chapter describes how the data were collected.
The bicycle stands in the yard behind the house.
Please fill in the table below and send it back.
The carpet in the office was replaced in June.
The map shows all stations between the coast and the capital.
Each packet holds twenty four sheets.
The elevator stops at every floor except the third.
The tap in the bathroom has been dripping since yesterday.
The newspaper lies on the bench near the entrance.
He measured the width of the door with a tape.
The flight takes a little more than two hours.
The garden is watered twice a week in summer.
The invoice is due at the end of the month.""".splitlines()
)


def read_texts(path: Path) -> list[str]:
    """One text a line; empty lines do not count. Raises DataError where there is none."""
    try:
        texts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not texts:
        raise DataError(f"{path}: holds no text; write one a line")
    return texts
