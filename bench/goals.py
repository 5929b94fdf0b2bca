"""How figures stand to their goals, as every benchmark prints it, and what became of all of them."""


class Goals:
    """Of a benchmark; exit_status() is 1 when one was missed."""

    def __init__(self):
        self._met = []

    def judge(self, goal, is_met):
        """How it is printed beside its figure."""
        self._met.append(bool(is_met))
        return f"(goal {goal}: {'met' if is_met else 'missed'})"

    @property
    def missed(self):
        return self._met.count(False)

    def exit_status(self):
        if self.missed:
            print(f"{self.missed} of {len(self._met)} goals missed")
        return 1 if self.missed else 0
