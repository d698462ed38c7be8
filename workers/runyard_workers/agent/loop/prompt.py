"""What the model is given: the instructions of the agent that speaks, and the request with its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic_ai import BinaryContent
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserContent,
    UserPromptPart,
)

from runyard_common.agents.rules.workflows import Step, Workflow
from runyard_common.schemas.outputs import OutputContract
from runyard_common.sessions.rules import Line
from runyard_workers.agent.attachments import Attached
from runyard_workers.agent.plan import AgentConfig, Plan


def instructions(
    plan: Plan, agent: AgentConfig, contract: OutputContract | None, notes: Sequence[str] = ()
) -> str:
    """The system prompt: the agent's own or the request's, the rules, the output's shape, and what to know."""
    own = agent.name == plan.agent.name
    blocks = [plan.system if own and plan.system else agent.instructions, *notes]
    if plan.rules:
        blocks.append("Rules you must always follow:\n" + "\n".join(f"- {rule}" for rule in plan.rules))
    if contract is not None and contract.guidance:
        blocks.append(contract.guidance)
    if plan.output_guidance and (contract is None or plan.output_guidance not in contract.guidance):
        blocks.append(f"How to format the answer: {plan.output_guidance}")
    return "\n\n".join(block for block in blocks if block)


def first_prompt(plan: Plan, attached: Sequence[Attached], sees_images: bool) -> list[UserContent]:
    """The request as the model gets it: message, arguments as JSON, then each file."""
    content: list[UserContent] = []
    if plan.message:
        content.append(plan.message)
    if plan.args is not None and plan.args != {}:
        content.append(orjson.dumps(plan.args, option=orjson.OPT_INDENT_2).decode())
    for one in attached:
        content += _file(one, sees_images)
    return content or ["Begin."]


def step_task(flow: Workflow, step: Step, inputs: Mapping[str, Any]) -> str:
    """What a step of a workflow is to do, with the results of the steps before it."""
    lines = [
        f"You carry out one step of the workflow {flow.name}: {flow.description}".rstrip(": "),
        f"The step is {step.name}: {step.description}",
        "Do this step only, and answer with its result. What the workflow was asked to work on follows.",
    ]
    lines += [f"Result of the step {name}: {_json(found)}" for name, found in inputs.items()]
    return "\n\n".join(lines)


def workflow_results(flow: Workflow, results: Mapping[str, Any]) -> str:
    """What a workflow that was carried out has given, for the agent's answer."""
    return (
        f"The workflow {flow.name} was carried out for this request. Results of its steps: {_json(results)}"
    )


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _file(one: Attached, sees_images: bool) -> list[UserContent]:
    name = one.file.name
    if one.trouble is not None:
        return [f"The attached file {name} could not be read: {one.trouble}"]
    if one.image is None:
        return [f"Attached file {name}:\n{one.text}"]
    if not sees_images:
        return [
            f"An image is attached, {name} ({one.image.width} × {one.image.height}); you cannot see images."
        ]
    image = BinaryContent(one.image.data, media_type=one.image.media_type, identifier=one.file.id)
    return [f"Attached image {name}:", image]


def demonstrations(agent: AgentConfig) -> list[ModelMessage]:
    """Example exchanges, as if they had come first."""
    found: list[ModelMessage] = []
    for asked, answered in agent.demonstrations:
        found += [
            ModelRequest(parts=[UserPromptPart(asked)]),
            ModelResponse(parts=[TextPart(answered)]),
        ]
    return found


def opening_line(plan: Plan, attached: Sequence[str]) -> Line:
    """The request as the conversation's first line."""
    content: Any = plan.message if plan.message is not None else plan.args
    if content is None:
        content = ", ".join(attached)
    return Line("user", "user_message", content)
