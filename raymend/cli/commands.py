"""The group of commands: an unknown one is answered with the one that was meant."""

from typing import Any

from typer.core import TyperGroup

from raymend.nearest import nearest


class Commands(TyperGroup):
    """Commands that suggest themselves; click's own suggestions miss prefixes and abbreviations."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is asked for, or end with a suggestion."""
        wanted = args[0]
        if self.get_command(ctx, wanted) is None and not wanted.startswith("-"):
            known = self.list_commands(ctx)
            near = nearest(wanted, known)
            ctx.fail(
                f"No such command '{wanted}'. " + (f"Did you mean {near}?" if near else f"Try {', '.join(known)}.")
            )
        return super().resolve_command(ctx, args)
