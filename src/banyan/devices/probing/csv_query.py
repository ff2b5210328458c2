"""Asks a tool that speaks as nvidia-smi does: columns by name, one line per chip."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from banyan.devices.probing import quantities
from banyan.devices.probing.bus import read_address
from banyan.devices.probing.command import RunCommand
from banyan.devices.probing.record import ChipRecord


@dataclass(frozen=True, slots=True)
class CsvQuery:
    """One question to one tool.

    Attributes:
        tool: the command.
        columns: field of the record -> the tool's name of the column, in the order of asking.
        ask: the option that takes the columns, up to and with "=" or as a word of its own.
        style: options for plain lines of values.
        feature: what stands before the column "feature": "compute_" makes "compute_9.0".
    """

    tool: str
    columns: Mapping[str, str]
    ask: str = "--query-gpu="
    style: tuple[str, ...] = ("--format=csv,noheader,nounits",)
    feature: str = ""

    def command(self) -> tuple[str, ...]:
        """Give the whole command."""
        names = ",".join(self.columns.values())
        asked = (f"{self.ask}{names}",) if self.ask.endswith("=") else (self.ask, names)
        return (self.tool, *asked, *self.style)

    def read(self, run: RunCommand) -> tuple[ChipRecord, ...]:
        """Run the tool and read its lines.

        Raises:
            ValueError: a line is not what was asked for.
            OSError: the tool cannot be started; `subprocess.SubprocessError`: it failed.
        """
        return tuple(self._record(row) for row in self._rows(run(self.command())))

    def _rows(self, text: str) -> Iterator[dict[str, str]]:
        first = next(iter(self.columns.values()))
        for line in text.splitlines():
            values = [value.strip() for value in line.split(",")]
            # Some tools print the header although they are told not to; warnings come between.
            if not line.strip() or line.startswith("WARNING") or values[0].split(" ")[0] == first:
                continue
            if len(values) != len(self.columns):
                raise ValueError(
                    f"{len(values)} fields where {len(self.columns)} were asked for: {line[:60]!r}"
                )
            yield dict(zip(self.columns, values, strict=True))

    def _record(self, row: Mapping[str, str]) -> ChipRecord:
        feature = row.get("feature", "")
        return ChipRecord(
            index=quantities.read_index(row["index"]),
            model=row["model"],
            uuid=row.get("uuid", ""),
            bus=read_address(row.get("bus", "")),
            memory_bytes=quantities.read_bytes(row["memory"]),
            memory_used_bytes=quantities.read_bytes(row.get("memory_used")),
            utilisation=quantities.read_share(row.get("utilisation")),
            temperature_celsius=quantities.read_celsius(row.get("temperature")),
            power_watts=quantities.read_watts(row.get("power")),
            power_limit_watts=quantities.read_watts(row.get("power_limit")),
            driver=row.get("driver") or None,
            features=(f"{self.feature}{feature}",) if feature else (),
        )
