"""What an agent's function is given as its arguments."""

from __future__ import annotations

from typing import Any

from runyard.authoring import AgentDefinition
from runyard.errors import AgentError
from runyard.json_types import DoesNotFit, Typed


def arguments(definition: AgentDefinition, given: Any) -> Any:
    """The arguments in the type that the function is annotated with. Raises `AgentError` invalid_input."""
    args = given.get("args")
    if definition.dict_args and args is not None and not isinstance(args, dict):
        raise AgentError(
            f"The arguments do not fit {definition.name}: it takes an object, not {type(args).__name__}.",
            code="invalid_input",
        )
    if definition.args_type is None:
        return {} if args is None else args
    try:
        return _typed(definition.args_type, args)
    except DoesNotFit as misfit:
        raise AgentError(
            f"The arguments do not fit {definition.name}, at {misfit.path}: {misfit.reason}",
            code="invalid_input",
            path=misfit.path,
        ) from None


def _typed(kind: Typed[Any], args: Any) -> Any:
    """Without arguments, as with an empty object, unless the type takes none."""
    if args is not None:
        return kind.validate(args)
    try:
        return kind.validate(None)
    except DoesNotFit:
        return kind.validate({})
