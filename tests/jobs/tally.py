"""The command `tally` with the commands about jobs, as a process of its own or in this one."""

from __future__ import annotations

from tallystick.cli import main, worker

for command in worker.COMMANDS:
    if command.name not in main.commands:
        main.add_command(command)

if __name__ == "__main__":
    main()
