"""What an agent's function is given as its arguments."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from runyard.authoring import AgentDefinition
from runyard.errors import AgentError


def arguments(definition: AgentDefinition, given: Any) -> Any:
    """The arguments in the type that the function is annotated with. Raises `AgentError` invalid_input."""
    args = given.get("args")
    if definition.dict_args and args is not None and not isinstance(args, dict):
        raise AgentError(
            f"The arguments do not fit {definition.name}: it takes an object, not {type(args).__name__}.",
            code="invalid_input",
        )
    if definition.args_type is not None:
        try:
            return definition.args_type.validate_python(args)
        except ValidationError as error:
            raise AgentError(
                f"The arguments do not fit {definition.name}: {error.errors()[0]['msg']}",
                code="invalid_input",
            ) from None
    return {} if args is None else args
