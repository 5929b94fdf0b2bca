"""How a figure stands to its goal, as every benchmark prints it."""


def against(goal, is_met):
    return f"(goal {goal}: {'met' if is_met else 'missed'})"
