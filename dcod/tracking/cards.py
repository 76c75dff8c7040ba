"""A model's card as the registry keeps it: a file beside the weights, and a description that is cut to its room."""

from __future__ import annotations

FILE = "README.md"
DESCRIPTION = 5000  # characters that MLflow's database holds of a description


def description(card: str) -> str:
    """The card without its head, at most as long as a registry holds; cut between sections."""
    body = card.partition("\n---\n")[2].strip()
    if len(body) <= DESCRIPTION:
        return body
    end = f"\n\nThe whole card is {FILE} beside the weights."
    kept = body[: DESCRIPTION - len(end)]
    cut = kept.rfind("\n## ")
    return kept[: cut if cut > 0 else kept.rfind("\n")].rstrip() + end
